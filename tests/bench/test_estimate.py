"""Estimates, by hand and by what must follow."""

from __future__ import annotations

import pytest

from tests.bench.contestant import Contestant, Heat, Lap
from tests.bench.estimate import minutes
from tests.bench.runners.task import Task

OURS = Contestant.of("ours", "ours", python="python", memory_bytes=0)


def heat(task: Task, section: str = "prefill", most_rounds: int | None = None) -> Heat:
    lap = Lap(name="lap", task=task, contestants=(OURS,))
    return Heat(section=section, laps=(lap,), most_rounds=most_rounds)


def test_a_prompt_takes_its_tokens_and_everybody_is_loaded_once() -> None:
    found = minutes([heat(Task(kind="prefill", tokens=600))], rounds=3)
    assert found == pytest.approx((6 + 3 * 10) / 60)


def test_rounds_that_tell_nothing_new_are_not_counted() -> None:
    task = Task(kind="prefill", tokens=600)
    assert minutes([heat(task, most_rounds=1)], rounds=3) == minutes([heat(task)], rounds=1)


def test_small_models_are_faster_but_rest_as_long() -> None:
    task = Task(kind="decode", tokens=128, new_tokens=64)
    assert minutes([heat(task, "smollm2")], 3) < minutes([heat(task, "decode")], 3)
    rest = Task(kind="idle", rest_s=30)
    assert minutes([heat(rest, "idle")], 2) == pytest.approx((6 + 60) / 60)


@pytest.mark.parametrize("kind", ["share", "streams", "pace", "answers", "ttft", "memory"])
def test_every_kind_of_task_takes_longer_with_more_tokens(kind: str) -> None:
    few, many = (
        minutes([heat(Task(kind=kind, tokens=n, new_tokens=n, reps=1))], 1) for n in (128, 1024)
    )
    assert few < many

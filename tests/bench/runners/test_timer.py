"""What all timers do alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.runners.task import Task
from tests.bench.runners.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Sequence


class TenTokensASecond(Timer):
    """Reads so many, but knows a beginning of four tokens that it has read before."""

    def __init__(self) -> None:
        super().__init__({})
        self.prompts: list[list[int]] = []

    def read(self, prompt: Sequence[int]) -> float:
        known = any(list(prompt[:4]) == each[:4] for each in self.prompts)
        self.prompts.append(list(prompt))
        return (len(prompt) - 4 * known) / 10


def test_prompts_are_new_each_time_and_the_first_is_not_timed() -> None:
    timer = TenTokensASecond()
    assert timer.run(Task(kind="prefill", tokens=40, reps=3)) == {"tok_s": pytest.approx(10)}
    assert [len(prompt) for prompt in timer.prompts] == [16, 40, 40, 40]
    assert len({prompt[0] for prompt in timer.prompts}) == 4


def test_the_second_question_finds_the_system_prompt_known() -> None:
    figures = TenTokensASecond().run(Task(kind="ttft", tokens=4, tail=2))
    assert figures == {"cold_s": 0.6, "warm_s": 0.2}


def test_memory_is_that_of_a_first_prompt() -> None:
    timer = TenTokensASecond()
    figures = timer.run(Task(kind="memory", tokens=8))
    assert len(timer.prompts) == 1
    assert figures["read_peak_rss_mb"] >= figures["loaded_rss_anon_mb"] > 0


def test_what_an_engine_is_not_timed_at_is_refused() -> None:
    with pytest.raises(ValueError, match="streams is not timed here"):
        TenTokensASecond().run(Task(kind="streams"))

"""Prompts of made-up ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.runners.task import Task

TASK = Task(kind="prefill")


@given(st.integers(0, 10_000), st.integers(1, 600))
def test_ids_are_of_ordinary_tokens(seed: int, count: int) -> None:
    ids = TASK.prompt(seed, count)
    assert len(ids) == count
    assert all(TASK.first_id <= each < TASK.first_id + TASK.num_ids for each in ids)


@given(st.integers(0, 5000), st.integers(1, 5000))
def test_two_seeds_have_no_beginning_in_common(seed: int, apart: int) -> None:
    assert TASK.prompt(seed, 1) != TASK.prompt(seed + apart, 1)


def test_a_longer_prompt_begins_as_a_shorter_one() -> None:
    assert TASK.prompt(3, 40)[:10] == TASK.prompt(3, 10)


def test_streams_are_asked_for_more_than_is_timed() -> None:
    task = Task(kind="streams", tokens=128, new_tokens=32, streams=8)
    assert task.stream_tokens(read_per_token=16) == 128

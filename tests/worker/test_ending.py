"""Why a process ended, from what is known of it."""

from __future__ import annotations

import signal
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.worker.ending import Cause, End, Exit, in_words, judged

CRASHED = Exit(
    code=1,
    how="exit code 1",
    was_ready=True,
    load_failure=None,
    is_dismissed=False,
    was_killed=False,
)
KILLED = replace(CRASHED, code=-signal.SIGKILL, how="killed by SIGKILL", was_killed=True)
counts = st.none() | st.integers(0, 5)


@pytest.mark.parametrize(
    ("gone", "cause"),
    [
        (CRASHED, Cause.CRASH),
        (KILLED, Cause.CRASH),
        (replace(CRASHED, is_dismissed=True), Cause.UNWANTED),
        (replace(KILLED, is_dismissed=True), Cause.UNWANTED),
        (replace(CRASHED, was_ready=False, load_failure="wrong hash"), Cause.CANNOT_LOAD),
        (replace(CRASHED, was_ready=False, code=-signal.SIGILL), Cause.WRONG_PROCESSOR),
        (replace(CRASHED, code=-signal.SIGILL), Cause.CRASH),
    ],
)
def test_an_end_has_one_cause(gone: Exit, cause: Cause) -> None:
    assert judged(gone, oom_kills_before=3, oom_kills_after=3).cause is cause


@pytest.mark.parametrize("is_dismissed", [True, False])
@pytest.mark.parametrize(("before", "after"), [(3, 4), (None, None), (None, 4), (3, None)])
def test_a_kill_is_for_memory_if_the_kernel_counts_it_or_nobody_does(
    is_dismissed: bool, before: int | None, after: int | None
) -> None:
    gone = replace(KILLED, is_dismissed=is_dismissed)
    end = judged(gone, oom_kills_before=before, oom_kills_after=after)
    assert end == End(Cause.NO_MEMORY, "killed by SIGKILL, out of memory")


@given(before=counts, after=counts, is_dismissed=st.booleans(), was_ready=st.booleans())
def test_who_was_not_killed_did_not_die_for_memory(
    before: int | None, after: int | None, is_dismissed: bool, was_ready: bool
) -> None:
    gone = replace(CRASHED, is_dismissed=is_dismissed, was_ready=was_ready)
    end = judged(gone, oom_kills_before=before, oom_kills_after=after)
    assert end.cause is not Cause.NO_MEMORY


def test_signals_have_names() -> None:
    assert in_words(7) == "exit code 7"
    assert in_words(-11) == "killed by SIGSEGV"
    assert in_words(-1000) == "killed by signal 1000"

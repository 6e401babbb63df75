"""What somebody is told who is turned away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import Pressure
from edge_agent.guard.reading import Level
from edge_agent.ops.health import State
from edge_agent.serving.admission import Reason
from edge_agent.serving.refusals import LOWERED_RETRY_S, refusal, unavailable
from tests.serving.test_admission import ALONE, HOUSE, LOAD, RULES, furnished


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_a_sentence_with_a_code(reason: Reason) -> None:
    error = refusal(reason, LOAD, ALONE, RULES)
    assert error.code
    assert str(error)
    assert error.retryable == (error.retry_after_s is not None)


def test_a_model_that_does_not_load_says_why() -> None:
    load = furnished(state=State.FAILED, detail="weights.bin is damaged")
    error = refusal(Reason.NO_LOCAL_MODEL, load, ALONE, RULES)
    assert (error.code, "weights.bin is damaged" in str(error)) == ("loading", True)


def test_short_memory_is_told_in_numbers_where_there_are_some() -> None:
    house = replace(HOUSE, room_bytes=2_000_000)
    need = replace(ALONE, needed_bytes=5_000_000)
    error = refusal(Reason.PRESSURE, replace(LOAD, house=house), need, RULES)
    assert "needs 5 MB, there is room for 2 MB" in str(error)
    error = refusal(Reason.PRESSURE, furnished(level=Level.HARD), ALONE, RULES)
    assert "level hard" in str(error)


def test_both_reasons_are_told_where_peers_fail_too() -> None:
    error = unavailable(Pressure("memory is short", 30), "attic is away")
    # Whichever is back first will do, and a peer is found within seconds.
    assert str(error) == "memory is short, and attic is away; retry in 15 s"
    assert error.retry_after_s == 15


def test_a_lowered_context_is_told_with_both_numbers_and_the_size_of_the_request() -> None:
    house = replace(HOUSE, level=Level.HARD, context_tokens=4096)
    need = replace(ALONE, tokens=1500)
    error = refusal(Reason.PRESSURE, replace(LOAD, house=house), need, RULES)
    assert "the context is 1024 tokens, not 4096, and the request needs about 1500" in str(error)
    assert error.retry_after_s == LOWERED_RETRY_S


def test_where_no_model_can_be_served_the_reason_is_told() -> None:
    load = furnished(state=State.RELAY, detail="this processor lacks instructions")
    error = refusal(Reason.NO_LOCAL_MODEL, load, ALONE, RULES)
    assert str(error).startswith("no model is served here: this processor lacks instructions")

"""Who goes nowhere hears what is missing here, what the peers lack, and whether time can help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.errors import PeerFailed, TooLongForPeer
from edge_agent.messages import Failed
from edge_agent.serving.admission import Reason
from edge_agent.serving.last_words import LastWords
from edge_agent.serving.record import Record
from edge_agent.serving.visit import Visit
from tests.serving.house import RULES, ScriptedPeers, request
from tests.serving.test_admission import ALONE, LOAD

AWAY = Failed.of(PeerFailed("attic", "is away"))
TOO_LONG = TooLongForPeer("attic", "has a context of 512 tokens")


def last_word(
    reason: Reason, peers: ScriptedPeers, failed_there: Failed | None = None, **rules: str
) -> Failed:
    visit = Visit(request(), Record("r", began_s=0.0), ALONE)
    visit.failed_there = failed_there
    words = LastWords(peers, replace(RULES, **rules))  # type: ignore[arg-type]  # its fallback
    return words.to(visit, reason, LOAD, ALONE)


@pytest.mark.parametrize("reason", Reason)
def test_the_reason_goes_out_with_it(reason: Reason) -> None:
    assert last_word(reason, ScriptedPeers()).reason == reason.value


def test_what_the_peers_lack_is_told_too() -> None:
    told = last_word(Reason.QUEUE, ScriptedPeers(problem="attic is busy"))
    assert told.code == "unavailable"
    assert ", and attic is busy; retry in" in told.message
    tried = last_word(Reason.QUEUE, ScriptedPeers(barred="rack is in zone cloud"), AWAY)
    assert ", and peer 'attic' is away; rack is in zone cloud; retry in" in tried.message


@pytest.mark.parametrize(
    ("reason", "fallback"),
    [(Reason.DRAINING, "auto"), (Reason.TOO_LARGE, "auto"), (Reason.QUEUE, "never")],
)
def test_peers_that_could_not_help_anyway_are_left_out(reason: Reason, fallback: str) -> None:
    told = last_word(reason, ScriptedPeers(problem="attic is busy"), fallback=fallback)
    assert "attic" not in told.message


def test_what_can_never_be_is_final_only_where_nothing_here_may_still_help() -> None:
    peers = ScriptedPeers(problem="attic is short", refusal=TOO_LONG)
    final = last_word(Reason.NO_LOCAL_MODEL, peers)
    assert (final.code, final.retryable) == ("context_length_exceeded", False)
    assert last_word(Reason.PRESSURE, peers).retryable


def test_a_peer_that_has_refused_for_good_is_believed_and_one_that_failed_may_come_back() -> None:
    refused = Failed.of(TOO_LONG)
    assert last_word(Reason.NO_LOCAL_MODEL, ScriptedPeers(), refused) == refused
    assert last_word(Reason.NO_LOCAL_MODEL, ScriptedPeers(), AWAY).retryable

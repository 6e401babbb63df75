"""Who is counted where, and what memory is promised to them."""

from __future__ import annotations

import pytest

from edge_agent.messages import Policy
from edge_agent.serving.admission import Need
from edge_agent.serving.ledger import Ledger

NEED = Need(
    prompt_bytes=10,
    least_tokens=1,
    likely_tokens=3,
    needed_bytes=500,
    policy=Policy.SITE,
    prompt_memory_bytes=200,
)


def test_a_request_counts_where_it_is_and_only_as_long_as_it_is_there() -> None:
    ledger = Ledger()
    with ledger.at_engine(NEED), ledger.at_door(NEED), ledger.at_peer(NEED):
        assert (ledger.here, ledger.held, ledger.there) == (2, 1, 1)
        assert ledger.here_bytes == 20
        assert ledger.predicted_bytes == 500
    assert (ledger.here, ledger.held, ledger.there, ledger.here_bytes) == (0, 0, 0, 0)


def test_what_is_taken_is_promised_no_longer() -> None:
    ledger = Ledger()
    with ledger.at_engine(NEED) as entry:
        assert (ledger.promised_bytes, ledger.most_read) == (500, 0)
        ledger.has_read(entry)
        ledger.has_read(entry)
        assert (ledger.promised_bytes, ledger.most_read) == (300, 1)
        entry.taken_bytes = 9999
        assert ledger.promised_bytes == 0


def test_an_engine_remembers_how_many_it_read_at_once() -> None:
    ledger = Ledger()
    with ledger.at_engine(NEED) as one, ledger.at_engine(NEED) as other, ledger.at_engine(NEED):
        ledger.has_read(one)
        ledger.has_read(other)
    with ledger.at_engine(NEED) as later:
        ledger.has_read(later)
    assert ledger.most_read == 2
    ledger.engine_is_new()
    assert ledger.most_read == 0


def test_who_waits_at_the_door_is_promised_nothing() -> None:
    ledger = Ledger()
    with ledger.at_door(NEED):
        assert ledger.promised_bytes == ledger.predicted_bytes == 0


def test_a_failure_inside_leaves_no_trace() -> None:
    ledger = Ledger()
    with pytest.raises(RuntimeError), ledger.at_engine(NEED):
        raise RuntimeError
    assert ledger.here == 0

"""A peer answers as the model here would: the same events, the same errors."""

from __future__ import annotations

import pytest

from edge_agent.messages import Accepted, Answer, Delta, Done, FinishReason, Usage
from tests.serving.peers.double import WORDS, Double
from tests.serving.peers.house import KINDS, TEXT, events, house, outcome, request, settings


@pytest.mark.parametrize("kind", KINDS)
async def test_an_answer_comes_piece_by_piece(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        accepted, *deltas, done = await events(peers, request())

    assert accepted == Accepted(prompt_tokens=None, served_by="attic")
    assert deltas == [Delta(word) for word in WORDS]
    assert isinstance(done, Done)
    assert done.finish_reason is FinishReason.STOP
    assert done.usage == Usage(prompt_tokens=7, completion_tokens=6)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_whole_answer_says_whose_it_is(kind: str) -> None:
    async with Double(kind) as double, house(settings(double.url, kind)) as peers:
        answer = await outcome(peers)

    assert isinstance(answer, Answer)
    assert (answer.text, answer.served_by) == (TEXT, "attic")

"""How long a prompt is, before anybody has counted its tokens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages import Message, Policy, Role, Tool
from edge_agent.serving.peers.errand import MOST_BYTES_PER_TOKEN, Errand
from tests.serving.peers.house import request


def errand(text: str, role: Role = Role.USER, **fields: Any) -> Errand:
    messages = (Message(role=role, content=text),)
    return Errand.of(request(messages=messages, **fields), Policy.SITE)


@given(st.text(max_size=200))
def test_the_least_is_never_more_than_what_is_likely(text: str) -> None:
    sized = errand(text)
    assert sized.least_tokens * MOST_BYTES_PER_TOKEN <= len(text.encode())
    assert sized.least_tokens <= sized.likely_tokens


def test_runs_of_white_space_are_no_tokens_for_sure() -> None:
    assert errand("a" * 160).least_tokens == 10
    assert errand(" \n\t" * 1000).least_tokens == 0


def test_earlier_answers_may_be_left_out_and_tools_take_room() -> None:
    assert errand("a" * 160, Role.ASSISTANT).least_tokens == 0
    plain, with_tools = errand("a"), errand("a", tools=(Tool(name="light", description="x" * 90),))
    assert with_tools.likely_tokens > plain.likely_tokens + 30


@pytest.mark.parametrize(("max_tokens", "more"), [(None, 512), (7, 7)])
def test_room_is_for_the_answer_too(max_tokens: int | None, more: int) -> None:
    sized = errand("a" * 300, max_tokens=max_tokens)
    assert sized.room_tokens == sized.likely_tokens + more

"""What is told of a prompt before anybody tokenizes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Engine
from edge_agent.messages import Message, Policy, Request, Role, Tool, ToolCall
from edge_agent.modelstore.fit import packed_bytes
from edge_agent.serving.sizing import (
    LEAST_ANSWER_TOKENS,
    TOKENS_PER_MESSAGE,
    Sizes,
    engine_bytes,
    size_of,
)
from tests.modelstore.plain_package import write_package
from tests.serving.house import request
from tests.shapes import PHI

if TYPE_CHECKING:
    from pathlib import Path

TOOL = Tool(name="look", description="looks", parameters={"type": "object"})


class PlainBudget:
    """A hundred bytes a token."""

    def cache_bytes(self, tokens: int) -> int:
        return 100 * tokens

    def shared_bytes(self, *, slots: int) -> int:
        return 1000 * slots

    def most_tokens(self, free_bytes: int) -> int:
        return free_bytes // 100


def known(longest: int | None = 4) -> Sizes:
    sizes = Sizes()
    sizes.know(PlainBudget(), context_tokens=1000, most_bytes=5000, longest_token_bytes=longest)
    return sizes


@given(st.text(max_size=300), st.integers(1, 128))
def test_the_least_is_never_more_than_there_is(text: str, longest: int) -> None:
    size = size_of(request(prompt=text), longest_token_bytes=longest)
    assert size.least_tokens * longest <= len(text.strip().encode())
    assert size.likely_tokens >= TOKENS_PER_MESSAGE


def test_without_a_tokenizer_the_least_is_nothing() -> None:
    assert size_of(request(prompt="x" * 999), longest_token_bytes=None).least_tokens == 0


def test_earlier_answers_may_be_shortened_and_do_not_count_for_the_least() -> None:
    said = Message(role=Role.ASSISTANT, content="x" * 999)
    asked = Request(id="r", messages=(said,))
    size = size_of(asked, longest_token_bytes=1)
    assert (size.least_tokens, size.prompt_bytes) == (0, 999)


def test_tools_and_calls_are_prompt() -> None:
    plain = size_of(request(), longest_token_bytes=1)
    call = ToolCall(id="c", name="look", arguments="{}")
    message = Message(role=Role.ASSISTANT, content="", tool_calls=(call,))
    more = Request(id="r", messages=(*request().messages, message), tools=(TOOL,))
    rich = size_of(more, longest_token_bytes=1)
    assert rich.prompt_bytes > plain.prompt_bytes + len("look{}")
    assert rich.least_tokens == plain.least_tokens


def test_what_is_needed_follows_prompt_and_answer() -> None:
    need = known().need(request(prompt="x" * 288, max_tokens=50, policy=Policy.ANY))
    assert (need.likely_tokens, need.needed_bytes) == (100, 15_000)
    assert (need.prompt_memory_bytes, need.fits_tokens) == (10_000, 50)
    assert need.policy is Policy.ANY


def test_an_answer_without_a_limit_is_counted_on_as_usual() -> None:
    need = known().need(request(prompt="x" * 288))
    assert need.needed_bytes == 100 * (100 + LEAST_ANSWER_TOKENS)


def test_nobody_needs_more_than_the_context() -> None:
    need = known().need(request(prompt="x" * 1_000_000, max_tokens=9999))
    assert need.needed_bytes == 100 * (1000 + 1)
    assert known().need(request(max_tokens=9999)).needed_bytes == 100 * 1000


def test_before_the_model_is_known_nothing_is_claimed() -> None:
    need = Sizes().need(request())
    assert (need.needed_bytes, need.least_tokens, need.fits_tokens) == (None, 0, 0)
    assert need.policy is Policy.LOCAL  # whoever forgets to say keeps it at home


FP32 = Engine(kv_dtype="fp32")


def test_weights_that_are_mapped_are_not_the_engines_own(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(write_package(tmp_path / "tiny"), shape=PHI)
    mapped = engine_bytes(manifest, FP32, is_prepared=True)
    heap = engine_bytes(manifest, FP32, is_prepared=False)
    assert heap - mapped == packed_bytes(manifest.shape, manifest.quantization)
    assert mapped == engine_bytes(manifest, Engine(context=128, kv_dtype="fp32"), is_prepared=True)

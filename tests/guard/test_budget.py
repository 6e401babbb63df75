"""Predictions of memory, against figures that were measured and against themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.kv_cache import KvArena, KvDtype, capacity_for
from edge_agent.guard.budget import Budget
from edge_agent.modelstore.fit import kv_bytes_per_token
from tests.shapes import PHI, SMOL

if TYPE_CHECKING:
    from edge_agent.modelstore.manifest import Shape

MB = 1e6


def budget(shape: Shape = PHI, kv_dtype: str = "fp32", *, chunk_tokens: int = 128) -> Budget:
    return Budget(shape=shape, kv_dtype=kv_dtype, chunk_tokens=chunk_tokens, context_tokens=4096)


@pytest.mark.parametrize(
    ("shape", "prompt", "answer", "megabytes"),
    [
        # Growth of a fresh engine, one greedy request, chunks of 128 tokens.
        (SMOL, 64, 4, 8.18),
        (SMOL, 128, 4, 15.56),
        (SMOL, 256, 4, 21.46),
        (PHI, 32, 3, 21.40),
        (PHI, 128, 3, 79.18),
        (PHI, 256, 3, 113.29),
    ],
)
def test_the_prediction_is_a_little_above_what_was_measured(
    shape: Shape, prompt: int, answer: int, megabytes: float
) -> None:
    predicted = budget(shape).needed_bytes(
        prompt_tokens=prompt, answer_tokens=answer, is_greedy=True
    )
    # Two megabytes are for what the heap creeps by later.
    assert megabytes <= predicted / MB <= 1.1 * megabytes + 2.1


def test_requests_together_take_what_was_measured() -> None:
    # Four prompts of 256 tokens and answers of 4.
    predicted = 4 * budget(SMOL).cache_bytes(260) + budget(SMOL).step_bytes(
        rows=128, running=4, is_greedy=True
    )
    assert 62.83 <= predicted / MB <= 1.1 * 62.83  # megabytes


@pytest.mark.parametrize(
    ("shape", "running", "megabytes"), [(SMOL, 1, 33.8), (SMOL, 4, 57.6), (PHI, 1, 58.5)]
)
def test_half_precision_needs_the_scores_that_were_measured(
    shape: Shape, running: int, megabytes: float
) -> None:
    def step(kv_dtype: str) -> int:
        return budget(shape, kv_dtype).step_bytes(rows=128, running=running)

    assert megabytes <= (step("fp16") - step("fp32")) / MB <= 2 * megabytes + 10
    assert step("int8") > step("fp32")


def test_strips_grow_by_pages() -> None:
    # A head of 128 floats: eight tokens a page.
    one_page = 2 * 32 * 8 * 4096
    assert budget().cache_bytes(0) == 0
    assert budget().cache_bytes(1) == budget().cache_bytes(8) == one_page
    assert budget().cache_bytes(9) == 2 * one_page


@pytest.mark.parametrize("kv_dtype", KvDtype)
@pytest.mark.parametrize("tokens", [1, 16, 17, 100])
def test_it_agrees_with_the_engine_about_what_a_cache_takes(kv_dtype: KvDtype, tokens: int) -> None:
    capacity = capacity_for(SMOL, tokens=128, dtype=kv_dtype.stored)
    arena = KvArena(SMOL, slots=1, capacity=capacity, dtype=kv_dtype.stored)
    here = Budget(shape=SMOL, kv_dtype=kv_dtype, chunk_tokens=128, context_tokens=128)
    assert here.cache_bytes(tokens) == arena.bytes_of(tokens)


def test_larger_pages_round_further() -> None:
    large = Budget(
        shape=PHI, kv_dtype="fp32", chunk_tokens=128, context_tokens=4096, page_bytes=16384
    )
    assert large.cache_bytes(1) == 4 * budget().cache_bytes(1)


def test_choosing_the_likeliest_token_draws_nothing() -> None:
    def needed(*, is_greedy: bool) -> int:
        return budget().needed_bytes(prompt_tokens=10, answer_tokens=10, is_greedy=is_greedy)

    assert needed(is_greedy=False) - needed(is_greedy=True) == 36 * PHI.vocab


def test_what_stays_with_the_engine_covers_every_step() -> None:
    shared = budget().shared_bytes(slots=4)
    assert shared >= budget().step_bytes(rows=1, running=4)
    assert shared >= budget().step_bytes(rows=128, running=1)


def test_a_context_of_128k_is_known_to_need_what_no_gateway_has() -> None:
    large = Budget(shape=PHI, kv_dtype="fp32", chunk_tokens=128, context_tokens=131072)
    assert large.needed_bytes(prompt_tokens=131000, answer_tokens=72) > 32 << 30


def test_where_nothing_fits_no_token_does() -> None:
    assert budget().most_tokens(0) == 0
    assert budget().most_tokens(1 << 20) == 0


KV_DTYPES = st.sampled_from(["fp32", "fp16", "int8"])
TOKENS = st.integers(0, 4096)


@given(KV_DTYPES, TOKENS, TOKENS, st.integers(16, 1024))
def test_a_prediction_covers_the_cache_and_grows_with_the_request(
    kv_dtype: str, prompt: int, answer: int, chunk: int
) -> None:
    made = budget(SMOL, kv_dtype, chunk_tokens=chunk)
    needed = made.needed_bytes(prompt_tokens=prompt, answer_tokens=answer)
    assert needed > (prompt + answer) * kv_bytes_per_token(SMOL, kv_dtype)
    assert made.needed_bytes(prompt_tokens=prompt + 1, answer_tokens=answer) >= needed
    assert made.needed_bytes(prompt_tokens=prompt, answer_tokens=answer + 1) >= needed


@given(KV_DTYPES, st.integers(0, 4 << 30))
def test_what_is_said_to_fit_fits_and_not_much_more_does(kv_dtype: str, free: int) -> None:
    made = budget(PHI, kv_dtype)
    most = made.most_tokens(free)
    assert 0 <= most <= made.context_tokens
    if most:
        assert made.needed_bytes(prompt_tokens=most - 1, answer_tokens=1) <= free
    if 128 <= most < made.context_tokens:
        # The next page of every strip does not fit any more.
        tokens_per_page = 4096 // (kv_bytes_per_token(PHI, kv_dtype) // (2 * 32 * 8))
        more = most + tokens_per_page
        assert made.needed_bytes(prompt_tokens=more, answer_tokens=0) > free

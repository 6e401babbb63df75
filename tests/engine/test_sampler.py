"""Each sampling rule against its definition, and the draw against its distribution."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.engine.sampler import Picker
from edge_agent.messages import Sampling

LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.3, 0.15], np.float32))


def picker(prompt: tuple[int, ...] = (), vocab: int = 5, **options: Any) -> Picker:
    return Picker(Sampling(**options), prompt=prompt, vocab=vocab)


def drawn(num: int, logits: np.ndarray = LOGITS, **options: Any) -> list[int]:
    """Return how often each token comes out of `num` draws that do not know each other."""
    one = picker(vocab=len(logits), seed=1, **options)
    counts = [0] * len(logits)
    for _ in range(num):
        counts[one.pick(logits.copy())] += 1
    return counts


@given(hnp.arrays(np.float32, 300, elements=st.floats(-50, 50, width=32)))
def test_greedy_is_the_argmax(logits: np.ndarray) -> None:
    assert picker(vocab=300, temperature=0).pick(logits.copy()) == int(np.argmax(logits))


def test_draws_follow_the_softmax() -> None:
    counts = drawn(20_000)

    expected = np.exp(LOGITS.astype(np.float64)) * 20_000
    # Chi-square with 4 degrees of freedom: 23.5 is passed once in 10,000 seeds; ours is fixed.
    assert float(((np.array(counts) - expected) ** 2 / expected).sum()) < 23.5


def test_draws_from_many_blocks_follow_the_softmax() -> None:
    # Four groups of weights 1 to 4, spread over 2,000 tokens: every block has some of each.
    logits = np.log(np.arange(2000, dtype=np.float32) % 4 + 1)
    counts = np.array(drawn(20_000, logits)).reshape(-1, 4)

    groups, halves = counts.sum(axis=0), counts.reshape(2, -1).sum(axis=1)
    # Chi-square with 3 degrees of freedom, and with 1: passed once in 10,000 seeds; ours is fixed.
    assert float(((groups - np.arange(1, 5) * 2000) ** 2 / (np.arange(1, 5) * 2000)).sum()) < 21.1
    assert float(((halves - 10_000) ** 2 / 10_000).sum()) < 15.2


def test_temperature_divides_the_logits() -> None:
    counts = drawn(20_000, temperature=0.5)

    weights = np.exp(LOGITS.astype(np.float64)) ** 2
    expected = weights / weights.sum() * 20_000
    assert float(((np.array(counts) - expected) ** 2 / expected).sum()) < 23.5


def test_top_k_keeps_the_k_heaviest() -> None:
    assert [count > 0 for count in drawn(2000, top_k=2)] == [False, True, False, True, False]


def test_top_p_keeps_the_fewest_that_hold_p() -> None:
    assert [count > 0 for count in drawn(2000, top_p=0.65)] == [False, True, False, True, False]
    assert [count > 0 for count in drawn(2000, top_p=0.75)] == [False, True, False, True, True]


def test_top_p_counts_the_mass_that_top_k_left() -> None:
    # Of {0.4, 0.3} the first holds 0.57: enough for 0.5.
    assert [count > 0 for count in drawn(2000, top_k=2, top_p=0.5)] == [0, 1, 0, 0, 0]


def test_min_p_is_relative_to_the_heaviest() -> None:
    assert [count > 0 for count in drawn(4000, min_p=0.3)] == [False, True, False, True, True]


def shares(logits: np.ndarray, *, top_k: int = 0, top_p: float = 1, min_p: float = 0) -> np.ndarray:
    """Return the share that each token has by definition: sorted, and in double precision."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    ranked = np.argsort(-weights, kind="stable")[: top_k or None]
    before = np.cumsum(weights[ranked]) - weights[ranked]
    ranked = ranked[before < top_p * weights[ranked].sum()]
    ranked = ranked[weights[ranked] >= min_p]
    kept = np.zeros(len(logits))
    kept[ranked] = weights[ranked] / weights[ranked].sum()
    return kept


FLAT = np.random.default_rng(1).normal(scale=0.3, size=1100).astype(np.float32)
PEAKED = np.random.default_rng(2).normal(scale=4, size=1100).astype(np.float32)
TIED = np.round(np.random.default_rng(3).normal(size=1100)).astype(np.float32)


@pytest.mark.parametrize("logits", [FLAT, PEAKED, TIED], ids=["flat", "peaked", "tied"])
@pytest.mark.parametrize(
    "options",
    [
        {"top_p": 0.9},
        {"top_p": 0.3},
        {"top_p": 0.02},
        {"min_p": 0.2},
        {"top_p": 0.6, "min_p": 0.1},
        {"top_k": 40},
        {"top_k": 700, "top_p": 0.7},
        {"top_k": 30, "top_p": 0.8, "min_p": 0.1},
    ],
    ids=str,
)
def test_draws_follow_what_the_filters_leave(logits: np.ndarray, options: dict[str, float]) -> None:
    num = 4000
    counts = np.array(drawn(num, logits, **options))
    expected = shares(logits, **options) * num  # type: ignore[arg-type]  # a count is an int

    assert not counts[expected == 0].any()
    # Tokens that are too seldom for the test are taken together, in turn, with about 20 draws each.
    ranked = np.argsort(-expected, kind="stable")
    group = (np.cumsum(expected[ranked]) / 20).astype(int).clip(max=num // 20 - 1)
    wanted = np.bincount(group, weights=expected[ranked])
    seen = np.bincount(group, weights=counts[ranked])[wanted > 0]
    wanted = wanted[wanted > 0]
    freedom = len(wanted) - 1
    # Chi-square of so many degrees has this mean and deviation; four of them, and some for few.
    limit = freedom + 4 * np.sqrt(2 * freedom) + 12
    assert float(((seen - wanted) ** 2 / wanted).sum()) < limit


@given(
    hnp.arrays(np.float32, st.integers(1, 1200), elements=st.sampled_from([-9, -1, 0, 0.5, 3])),
    st.floats(0.01, 1),
    st.floats(0, 1),
    st.integers(0, 40),
    st.integers(0, 1 << 32),
)
def test_what_is_drawn_is_what_the_filters_leave(
    logits: np.ndarray, top_p: float, min_p: float, top_k: int, seed: int
) -> None:
    one = picker(vocab=len(logits), top_p=top_p, min_p=min_p, top_k=top_k, seed=seed)
    # Where a sum all but equals the share, rounding decides.
    allowed = shares(logits, top_k=top_k, top_p=top_p + 1e-5, min_p=min_p - 1e-5)

    for _ in range(5):
        assert allowed[one.pick(logits.copy())] > 0


@pytest.mark.parametrize("options", [{"top_p": 0.9, "min_p": 0.1}, {"top_k": 3}, {}], ids=str)
def test_a_broken_row_ends_the_search(options: dict[str, Any]) -> None:
    logits = np.full(600, np.nan, np.float32)

    assert 0 <= picker(vocab=600, **options).pick(logits) < 600


def test_the_nucleus_of_a_large_vocabulary_is_what_it_is_by_definition() -> None:
    # Beyond one look; ties, so that ids count; half of the tokens weigh nearly nothing.
    logits = np.round(np.random.default_rng(5).normal(size=40_000), 1).astype(np.float32)
    logits[::2] -= 20
    one, expected = picker(vocab=40_000, seed=1, top_p=0.5), shares(logits, top_p=0.5)
    every = np.array([one.pick(logits.copy()) for _ in range(3000)])

    assert (expected[every] > 0).all()
    # Whether a token's turn comes early or late must not matter: quarters of the ids, chi-square
    # with 3 degrees of freedom, passed once in 10,000 seeds.
    wanted = expected.reshape(4, -1).sum(axis=1) * 3000
    seen = np.bincount(every // 10_000, minlength=4)
    assert float(((seen - wanted) ** 2 / wanted).sum()) < 21.1


@pytest.mark.parametrize("shift", [-1000, -40, -20, 60, 90, 1000])
@pytest.mark.parametrize("options", [{"top_p": 0.9, "min_p": 0.1}, {"top_k": 700}, {}], ids=str)
def test_how_high_all_logits_are_does_not_matter(options: dict[str, Any], shift: int) -> None:
    # Eighths, so that shifting them rounds nothing.
    logits = np.round(PEAKED * 8) / np.float32(8)
    shifted = logits + np.float32(shift)
    one, other = picker(vocab=1100, seed=2, **options), picker(vocab=1100, seed=2, **options)

    for _ in range(50):
        assert one.pick(logits.copy()) == other.pick(shifted.copy())


def test_a_min_p_of_1_keeps_the_heaviest() -> None:
    for top_k in (0, 700):
        assert set(np.flatnonzero(drawn(50, PEAKED, min_p=1, top_k=top_k))) == {PEAKED.argmax()}


def test_few_and_all_draw_the_same_by_the_same_noise() -> None:
    few, whole = picker(vocab=1100, seed=4, top_k=1100), picker(vocab=1100, seed=4)

    for _ in range(50):
        assert few.pick(FLAT.copy()) == whole.pick(FLAT.copy())


def test_top_p_keeps_a_fifth_of_equals() -> None:
    flat = np.zeros(5000, np.float32)

    assert sum(count > 0 for count in drawn(3000, flat, top_p=0.2)) > 400


def test_equal_seeds_draw_equally_and_other_seeds_do_not() -> None:
    def text(seed: int) -> list[int]:
        one = picker(seed=seed)
        return [one.pick(LOGITS.copy()) for _ in range(50)]

    assert text(7) == text(7)
    assert text(7) != text(8)


def test_the_last_digits_of_logits_hardly_ever_change_a_draw() -> None:
    rng = np.random.default_rng(3)
    one, other = picker(seed=5, vocab=5000), picker(seed=5, vocab=5000)
    changed = 0
    for _ in range(300):
        logits = rng.normal(size=5000).astype(np.float32)  # flat: thousands of likely tokens
        nudged = logits + rng.normal(scale=1e-3, size=5000).astype(np.float32)
        changed += one.pick(logits) != other.pick(nudged)

    assert changed <= 3


def test_a_vanishing_temperature_is_greedy() -> None:
    assert picker(temperature=1e-300).pick(LOGITS.copy()) == 1


def test_repetition_penalty_weakens_prompt_and_answer() -> None:
    one = picker(prompt=(0,), temperature=0, repetition_penalty=2.0)

    assert one.pick(np.array([3, 2, -1, 1, 0], np.float32)) == 1  # 3 / 2 < 2
    assert one.pick(np.array([1, 1.5, -1, 0.9, 0], np.float32)) == 3  # 1.5 / 2, 1 / 2
    assert one.pick(np.array([-1, -1, -1.5, -1, -9], np.float32)) == 2  # -1 * 2


def test_presence_counts_once_and_frequency_each_time() -> None:
    logits = np.array([1.0, 0.5, 0, 0, 0], np.float32)
    presence, frequency = (
        picker(temperature=0, presence_penalty=0.4),
        picker(temperature=0, frequency_penalty=0.2),
    )

    assert [presence.pick(logits.copy()) for _ in range(4)] == [0, 0, 0, 0]
    assert [frequency.pick(logits.copy()) for _ in range(5)] == [0, 0, 0, 1, 0]


def test_additive_penalties_leave_the_prompt_alone() -> None:
    one = picker(prompt=(0, 0, 0), temperature=0, frequency_penalty=2.0, presence_penalty=2.0)

    assert one.pick(np.array([1, 0.5, 0, 0, 0], np.float32)) == 0


@pytest.mark.parametrize("options", [{"top_p": 0.9}, {"top_k": 40}, {"min_p": 0.05}, {}])
def test_holes_are_never_drawn(options: dict[str, float]) -> None:
    logits = np.array([-np.inf, 0, -np.inf, 0, -np.inf], np.float32)

    assert [count > 0 for count in drawn(200, logits, **options)] == [0, 1, 0, 1, 0]

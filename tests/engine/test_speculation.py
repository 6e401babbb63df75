"""How many drafts a step verifies."""

from __future__ import annotations

from itertools import accumulate, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.scheduler.plan import Work
from edge_agent.engine.speculation import Speculation, gains_of, most_worth, share_out

# Seconds of a step by its tokens: one where a second token is nearly free, one where it is not.
CHEAP = {1: 1.0, 2: 1.05, 4: 1.6, 8: 2.4, 16: 4.0, 32: 8.0, 64: 14.0, 128: 26.0}
DEAR = {1: 1.0, 2: 3.0, 4: 3.4, 8: 4.2, 16: 6.0, 32: 10.0, 64: 18.0, 128: 34.0}


def taught(costs: dict[int, float], *, most_drafts: int = 7) -> Speculation:
    speculation = Speculation(most_drafts)
    for _ in range(20):
        for tokens, seconds in costs.items():
            speculation.note_step(tokens=tokens, has_prompt=tokens > 16, seconds=seconds)
    return speculation


def widened(speculation: Speculation, *offers: list[float], prompt_tokens: int = 0) -> list[int]:
    """Return the drafts of each slot in a step where all decode and one more may read."""
    work = [Work(slot=slot, num_tokens=1) for slot in range(len(offers))]
    if prompt_tokens:
        work.append(Work(slot=99, num_tokens=prompt_tokens))
    result = speculation.widen(work, dict(enumerate(offers)))
    assert [item.slot for item in result] == [item.slot for item in work]
    assert result[len(offers) :] == tuple(work[len(offers) :])
    return [item.num_tokens - 1 for item in result[: len(offers)]]


def chances(chance: float, count: int = 7) -> list[float]:
    return list(accumulate([chance] * count, lambda so_far, each: so_far * each))


SURE, LIKELY, HARDLY = chances(0.97), chances(0.6), chances(0.1)


def test_nothing_is_drafted_before_the_first_step_was_timed() -> None:
    assert widened(Speculation(7), SURE) == [0]


def test_what_is_sure_is_drafted_in_full() -> None:
    assert widened(taught(CHEAP), SURE) == [7]
    assert widened(taught(DEAR), SURE) == [7]


def test_what_is_likely_is_drafted_as_far_as_the_machine_makes_it_pay() -> None:
    dear = taught(DEAR)
    granted = [widened(dear, LIKELY)[0] for _ in range(20)]

    assert 1 <= widened(taught(CHEAP), LIKELY)[0] <= 3
    assert granted[-1] == 0  # after a trial or two


def test_drafts_go_to_the_answers_that_use_them() -> None:
    first, second, third = widened(taught(CHEAP), HARDLY, SURE, [])

    assert second == 7
    assert first == third == 0


def test_a_fuller_batch_drafts_less_of_each() -> None:
    alone = widened(taught(CHEAP), LIKELY)[0]
    together = widened(taught(CHEAP), *[LIKELY] * 8)

    assert max(together) <= alone


def test_beside_a_prompt_a_draft_has_to_be_worth_what_it_takes() -> None:
    assert widened(taught(CHEAP), HARDLY, prompt_tokens=120) == [0]
    assert widened(taught(CHEAP), SURE, prompt_tokens=120)[0] > 0


def test_drafts_that_do_not_pay_are_tried_for_a_small_part_of_the_time() -> None:
    speculation = taught(DEAR)
    tried = extra_s = plain_s = 0.0
    for _ in range(4000):
        [drafts] = widened(speculation, HARDLY)
        seconds = DEAR[1] if not drafts else 3.0 + 0.2 * (drafts - 1)
        tried += drafts > 0
        plain_s += DEAR[1]
        extra_s += seconds - DEAR[1]
        speculation.note_step(tokens=1 + drafts, has_prompt=False, seconds=seconds)

    assert tried
    assert extra_s <= 0.01 * plain_s


def test_a_machine_that_became_cheap_is_found_out() -> None:
    speculation = taught(DEAR)
    granted = []
    for _ in range(4000):
        [drafts] = widened(speculation, LIKELY)
        granted.append(drafts)
        seconds = 1.0 + 0.1 * drafts
        speculation.note_step(tokens=1 + drafts, has_prompt=False, seconds=seconds)

    assert min(granted[-100:]) > 0


CHANCES = st.lists(st.floats(0.01, 0.99), max_size=4).map(
    lambda each: list(accumulate(each, lambda so_far, one: so_far * one))
)


@given(
    st.lists(CHANCES, min_size=1, max_size=3),
    st.lists(st.floats(0, 1), min_size=16, max_size=16),
)
def test_no_other_choice_of_drafts_promises_more(
    offers: list[list[float]], more_s: list[float]
) -> None:
    times = list(accumulate(more_s, initial=1.0))
    answers = len(offers)

    def seconds(tokens: int) -> float:
        return times[tokens - 1]

    def pace(counts: tuple[int, ...]) -> float:
        gain = sum(sum(offer[:n]) for offer, n in zip(offers, counts, strict=True))
        return (answers + gain) / seconds(answers + sum(counts))

    best = most_worth(gains_of(offers), answers=answers, step_tokens=answers, seconds=seconds)
    chosen = tuple(share_out(offers, best))
    everything = list(product(*(range(len(offer) + 1) for offer in offers)))
    most = max(map(pace, everything))

    assert sum(chosen) == best
    if best:
        assert pace(chosen) == pytest.approx(most)
    else:
        assert most <= pace((0,) * answers) * 1.04


@given(st.lists(CHANCES, max_size=5), st.integers(0, 20))
def test_nobody_gets_more_drafts_than_are_on_offer(offers: list[list[float]], count: int) -> None:
    shares = share_out(offers, count)

    assert sum(shares) == min(count, sum(map(len, offers)))
    assert all(share <= len(offer) for share, offer in zip(shares, offers, strict=True))

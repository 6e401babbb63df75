from __future__ import annotations

import pytest

from tests.real.fidelity.agreement import count_agreement, first_difference

REFERENCE = ((5, 6, 7), (2.0, 0.05, 0.5))


def test_equal_answers_do_not_differ() -> None:
    assert first_difference((5, 6, 7), (5, 6, 7)) is None


def test_an_answer_that_ends_early_differs_where_it_ends() -> None:
    assert first_difference((5, 6, 7), (5, 6)) == 2


@pytest.mark.parametrize(
    ("answer", "identical", "identical_or_near_tie"),
    [
        ((5, 6, 7), 1, 1),
        ((5, 8, 9), 0, 1),  # parts where the two best lie within 0.05
        ((5, 6, 8), 0, 0),  # parts where the best leads by 0.5
        ((4, 6, 7), 0, 0),
        ((5,), 0, 1),  # ends at the tie
        ((5, 6, 7, 8), 0, 0),  # goes on after the reference has ended
    ],
)
def test_an_answer_counts_by_its_first_difference(
    answer: tuple[int, ...], identical: int, identical_or_near_tie: int
) -> None:
    agreement = count_agreement([REFERENCE], [answer])
    assert agreement.identical == identical
    assert agreement.identical_or_near_tie == identical_or_near_tie


def test_every_reference_needs_an_answer() -> None:
    with pytest.raises(ValueError, match="shorter"):
        count_agreement([REFERENCE, REFERENCE], [(5, 6, 7)])

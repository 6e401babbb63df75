"""Counts how near greedy answers are to the float reference. Pure arithmetic on token ids.

Used by the test and by the scripts that make the reference, so that all are judged alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Two logits nearer than this are a tie that rounding of weights or activations may break either
# way: the float model itself gives the loser at least 0.475 of the pair's probability.
NEAR_TIE_LOGITS = 0.1


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of `prompts` answers equal the reference, or leave it at a near tie only."""

    prompts: int
    identical: int
    identical_or_near_tie: int

    def __str__(self) -> str:
        return (
            f"{self.identical} of {self.prompts} identical, "
            f"{self.identical_or_near_tie} identical or parted at a near tie"
        )


def first_difference(reference: Sequence[object], answer: Sequence[object]) -> int | None:
    """Return the first position at which `answer` leaves `reference`; None where they are equal."""
    for position, (expected, got) in enumerate(zip(reference, answer, strict=False)):
        if expected != got:
            return position
    shorter = min(len(reference), len(answer))
    return None if len(reference) == len(answer) else shorter


def parts_at_near_tie(gaps: Sequence[float], position: int | None) -> bool:
    """Return whether an answer that leaves the reference at `position` does so at a near tie.

    `gaps` holds, per reference token, the best logit minus the second best. An answer that goes on
    after the reference has ended does not part at a tie: no logits were there to choose from.
    """
    return position is not None and position < len(gaps) and gaps[position] <= NEAR_TIE_LOGITS


def count_agreement(
    references: Sequence[tuple[Sequence[int], Sequence[float]]], answers: Sequence[Sequence[int]]
) -> Agreement:
    """Compare each answer with its reference, given as (token ids, gaps).

    Raises:
        ValueError: there is not exactly one answer per reference.
    """
    identical = near_ties = 0
    for (ids, gaps), answer in zip(references, answers, strict=True):
        position = first_difference(ids, answer)
        identical += position is None
        near_ties += parts_at_near_tie(gaps, position)
    return Agreement(len(answers), identical, identical + near_ties)

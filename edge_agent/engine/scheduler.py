"""Decides what one step computes. Plain values in, plain values out: no arrays, no clock.

Rows that decode always go first, one token each; what is left of the chunk goes to prompts in the
order of their arrival, so a running answer never waits for more than one chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """A running request as the planner sees it: `prompt_left` is 0 once it decodes."""

    slot: int
    arrival: int
    prompt_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How many tokens a slot computes in the step: one that decodes, or part of a prompt."""

    slot: int
    num_tokens: int


def plan(running: Sequence[SlotState], *, chunk_tokens: int) -> tuple[Work, ...]:
    """Return the work of the next step, empty if nothing runs.

    Every decoding slot gets one token. Prompts share `chunk_tokens`, the oldest first.
    """
    work = [Work(slot=state.slot, num_tokens=1) for state in running if state.prompt_left == 0]
    room = chunk_tokens
    for state in sorted(running, key=lambda state: state.arrival):
        count = min(state.prompt_left, room)
        if count:
            work.append(Work(slot=state.slot, num_tokens=count))
            room -= count
    return tuple(work)

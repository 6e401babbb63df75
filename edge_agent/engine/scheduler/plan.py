"""Decides what one step computes: rows that decode, and one chunk of prompts.

Answers that run go first, and the chunk is only as large as their pace allows (`pace`). Within the
chunk the prompt with the least left goes first, so that a short one does not wait for the whole of
a long one; the oldest has a share of every chunk, so that no stream of short ones stops it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.engine.scheduler.pace import room_for_prompts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.engine.scheduler.pace import Pace

# The oldest prompt gets this part of a chunk at least: it takes four times as long at worst, and a
# prompt shorter than the rest is still read in the step in which it comes.
_PARTS_OF_OLDEST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotState:
    """A request in a slot as the planner sees it."""

    slot: int
    arrival: int
    unread: int
    """Known tokens that are not in the cache yet; 0 once it decodes."""
    rank: int = 0
    """The higher ones are read first."""
    kin: Sequence[int] = ()
    """Slots of unread prompts that go on with the same tokens: one of them computes for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How many tokens a slot computes in the step: one that decodes, or part of what is unread."""

    slot: int
    num_tokens: int


def plan(
    running: Sequence[SlotState], *, pace: Pace, chunk_tokens: int, kept_pace: float
) -> tuple[Work, ...]:
    """Return the work of the next step, empty if nothing runs.

    Every decoding slot gets one token. Prompts share what of `chunk_tokens` leaves those that
    decode `kept_pace` of their pace; 0 is all of it.
    """
    decoding = [Work(slot=state.slot, num_tokens=1) for state in running if not state.unread]
    prompts = [state for state in running if state.unread]
    if not prompts:
        return tuple(decoding)
    room = room_for_prompts(
        pace, answers=len(decoding), chunk_tokens=chunk_tokens, kept_pace=kept_pace
    )
    return (*decoding, *_reading(prompts, room))


def _reading(prompts: Sequence[SlotState], room: int) -> list[Work]:
    if not room:
        return []
    order = _leaders(sorted(prompts, key=lambda state: (-state.rank, state.unread, state.arrival)))
    oldest = min(order, key=lambda state: state.arrival)
    counts = dict.fromkeys((state.slot for state in order), 0)
    counts[oldest.slot] = min(oldest.unread, -(-room // _PARTS_OF_OLDEST))
    room -= counts[oldest.slot]
    for state in order:
        more = min(state.unread - counts[state.slot], room)
        counts[state.slot] += more
        room -= more
    return [Work(slot=slot, num_tokens=count) for slot, count in counts.items() if count]


def _leaders(ordered: Sequence[SlotState]) -> list[SlotState]:
    """Leave out who goes on with the same tokens as one before it: it takes them over from that."""
    before: set[int] = set()
    leaders = []
    for state in ordered:
        if before.isdisjoint(state.kin):
            leaders.append(state)
        before.add(state.slot)
    return leaders

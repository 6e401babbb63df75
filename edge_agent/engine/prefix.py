"""Which tokens every slot of the KV arena holds, and what a new prompt can take over of them.

Pure bookkeeping: it decides, the engine copies and gives pages back. A slot that has no request
keeps what it holds, a prefix, until the slot or its memory is worth more elsewhere.

Prefixes are shared by all requests, whoever sent them. Nobody gets to read what others wrote, but
who can time answers closely can tell whether somebody has lately sent a prompt that begins as
theirs does. Where clients must not learn even that of each other, a budget of 0 switches it off.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Tokens = NDArray[np.int32]

# A token that is copied costs a hundredth of one that is computed: 35 us of 5 ms of a core on
# SmolLM2-135M (fp32, fresh pages included); both grow alike with the model.
_COPY_COST = 0.01
# Shorter than this, the calls of a copy cost more than the tokens.
_LEAST_TOKENS = 8
# What was in every prompt for a week shall not outlive its use by another week.
_MOST_HITS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a prompt goes: its first `kept_tokens` are there already."""

    slot: int
    kept_tokens: int
    is_clean: bool
    """The slot holds nothing else; if not, the pages after `kept_tokens` are to be given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """The tokens [start, stop) of `source`, a slot or pinned, are what slot `target` needs next."""

    source: int
    target: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """All but the first `keep_tokens` of `slot` are forgotten: their pages can go."""

    slot: int
    keep_tokens: int


@dataclass(slots=True, kw_only=True)
class Counts:
    """Tokens since the start; what was computed or copied is held, or evicted by now."""

    computed: int = 0
    copied: int = 0
    rewound: int = 0
    """Taken over in the slot that held them."""
    evicted: int = 0


@dataclass(slots=True, kw_only=True)
class _Slot:
    """What a slot holds: `tokens[:length]`, at positions that begin at row `offset`."""

    tokens: Tokens
    length: int = 0
    offset: int = 0
    prompt: Tokens | None = None
    """Of the request that runs here."""
    hits: int = 0
    """How many prompts began with what is here, lately."""
    depth: int = 0
    """The most tokens that one of them took over."""
    last_used: int = 0
    awaited_by: int | None = None
    """The number of the preempted request that goes on from here."""

    @property
    def held(self) -> Tokens:
        return self.tokens[: self.length]

    @property
    def is_kept(self) -> bool:
        return self.prompt is None and self.length > 0


@dataclass(slots=True, kw_only=True)
class Prefixes:
    """The slots of an arena, each with a running request, a kept prefix, or nothing."""

    num_slots: int
    most_tokens: int
    """Tokens that a slot has room for."""
    budget_bytes: int
    """What kept prefixes may take; 0 also keeps running requests from sharing theirs."""
    bytes_of: Callable[[int], int]
    """Memory of a slot's first tokens, by their number; never falls."""
    counts: Counts = field(default_factory=Counts)
    _slots: list[_Slot] = field(init=False)
    _pinned: dict[int, _Slot] = field(init=False, default_factory=dict)
    """Beginnings that lie in files: sources of copies, never a place, never forgotten."""
    _limit_bytes: int = field(init=False)
    _now: int = field(init=False, default=0)
    """Rises by one with each prompt: the age of prefixes is counted in prompts."""

    def __post_init__(self) -> None:
        self._limit_bytes = self.budget_bytes
        empty = (np.empty(self.most_tokens, np.int32) for _ in range(self.num_slots))
        self._slots = [_Slot(tokens=tokens) for tokens in empty]

    @property
    def running_tokens(self) -> int:
        """Tokens of all running requests."""
        return sum(slot.length for slot in self._slots if slot.prompt is not None)

    @property
    def kept_bytes(self) -> int:
        """Memory of all kept prefixes."""
        return sum(self.bytes_of(slot.length) for slot in self._slots if slot.is_kept)

    def pin(self, number: int, tokens: Tokens, *, offset: int) -> None:
        """Let prompts begin with `tokens` as copies from `number`, which is none of the slots."""
        if number < self.num_slots:
            msg = f"{number} is one of {self.num_slots} slots"
            raise ValueError(msg)
        self._pinned[number] = _Slot(tokens=tokens, length=len(tokens), offset=offset)

    def held(self, slot: int) -> Tokens:
        """Return the tokens int32 [n] that `slot` holds; not a copy."""
        return self._slots[slot].held

    def place(self, prompt: Tokens, *, offset: int) -> Place:
        """Give `prompt`, int32 [n], a slot: the one where that costs the fewest tokens.

        What counts is what would be lost of the slot's prefix and what would be copied into it.
        `offset` is the row of the rope tables where positions begin: keys turned by other rows are
        other keys. Of a prompt one token at least is left to compute, for its logits.

        Raises:
            ValueError: every slot has a request.
        """
        self._now += 1
        common = self._common(prompt, offset)
        best = max(common.values())
        free = [number for number, slot in enumerate(self._slots) if slot.prompt is None]
        number = min(
            free,
            key=lambda n: (
                self._is_missed(n, keep=common[n]),
                self._loss(n, keep=common[n]) + (best - common[n]) * _COPY_COST,
            ),
        )
        if best >= _LEAST_TOKENS:
            self._hit(self._source(_first(common, best)), best)
        slot, kept = self._slots[number], common[number]
        place = Place(slot=number, kept_tokens=kept, is_clean=slot.length == kept)
        self._forget(slot, keep=kept)
        slot.prompt, slot.offset, slot.awaited_by = prompt, offset, None
        self.counts.rewound += kept
        return place

    def share(self, number: int) -> Copy | None:
        """Let the prompt in a slot take over what another slot holds more of; None if none does."""
        slot = self._slots[number]
        if slot.prompt is None or slot.length >= len(slot.prompt):
            return None
        common = self._common(slot.prompt, slot.offset)
        stop = max(common.values())
        if stop - slot.length < _LEAST_TOKENS:
            return None
        copy = Copy(source=_first(common, stop), target=number, start=slot.length, stop=stop)
        slot.tokens[slot.length : stop] = slot.prompt[slot.length : stop]
        slot.length = stop
        self.counts.copied += stop - copy.start
        return copy

    def kin(self, number: int) -> list[int]:
        """Return the slots of other unread prompts that go on as the prompt in this one does."""
        slot = self._slots[number]
        if slot.prompt is None or self.budget_bytes == 0:
            return []
        least = slot.length + _LEAST_TOKENS
        return [
            other_number
            for other_number, other in enumerate(self._slots)
            if other is not slot
            and other.prompt is not None
            and other.offset == slot.offset
            and other.length < len(other.prompt)
            and _num_equal(slot.prompt, other.prompt) >= least
        ]

    def grow(self, number: int, tokens: Sequence[int]) -> None:
        """Note that `tokens` were computed in a slot, after those it held."""
        slot = self._slots[number]
        slot.tokens[slot.length : slot.length + len(tokens)] = tokens
        slot.length += len(tokens)
        self.counts.computed += len(tokens)

    def finish(self, number: int, *, awaited_by: int | None = None) -> list[Drop]:
        """Keep what a request leaves in its slot; return what has to go for it.

        `awaited_by` is the number of a preempted request, which will go on from there: what is
        awaited goes last, until `abandon`.
        """
        slot = self._slots[number]
        slot.prompt = None
        slot.last_used = self._now
        slot.awaited_by = awaited_by
        return self._evict()

    def abandon(self, request: int) -> None:
        """Treat what is kept for `request` as any other prefix: it is over, or goes on."""
        for slot in self._slots:
            if slot.awaited_by == request:
                slot.awaited_by = None

    def limit(self, most_bytes: int) -> list[Drop]:
        """Keep at most `most_bytes` (and the budget) from now on; return what has to go."""
        self._limit_bytes = min(most_bytes, self.budget_bytes)
        return self._evict()

    def _common(self, prompt: Tokens, offset: int) -> dict[int, int]:
        """Return for every slot and pinned beginning how much `prompt` can take over from it."""
        sources = self._sources()
        if self.budget_bytes == 0:
            sources = self._pinned
        usable = prompt[: len(prompt) - 1]
        common = dict.fromkeys(range(self.num_slots), 0)
        for number, slot in sources.items():
            common[number] = _num_equal(slot.held, usable) if slot.offset == offset else 0
        return common

    def _sources(self) -> dict[int, _Slot]:
        return {**dict(enumerate(self._slots)), **self._pinned}

    def _source(self, number: int) -> _Slot:
        return self._pinned[number] if number in self._pinned else self._slots[number]

    def _loss(self, number: int, *, keep: int) -> float:
        """Return what is lost with all but the first `keep` tokens of a slot.

        It is counted in tokens that no other slot holds: those that prompts began with once more
        for each such prompt, all less for what has been idle.
        """
        slot = self._slots[number]
        if slot.length == keep:
            return 0.0
        elsewhere = max(
            (
                _num_equal(slot.held, other.held)
                for other in (*self._slots, *self._pinned.values())
                if other is not slot and other.offset == slot.offset
            ),
            default=0,
        )
        safe = max(keep, elsewhere)
        lost = slot.length - safe + slot.hits * max(slot.depth - safe, 0)
        return lost / (self._now - slot.last_used + 1)

    def _is_missed(self, number: int, *, keep: int) -> bool:
        """Return whether somebody will need what a slot holds beyond the first `keep` tokens."""
        slot = self._slots[number]
        return slot.awaited_by is not None and slot.length > keep

    def _evict(self) -> list[Drop]:
        """Forget the least valuable prefixes until the rest is within the limit."""
        drops = []
        while (excess := self.kept_bytes - self._limit_bytes) > 0:
            kept = [number for number, slot in enumerate(self._slots) if slot.is_kept]
            number = min(kept, key=lambda n: (self._is_missed(n, keep=0), self._loss(n, keep=0)))
            slot = self._slots[number]
            # Its beginning is what most prompts share: only as much goes as has to.
            room = self.bytes_of(slot.length) - excess
            keep = bisect_right(range(slot.length), room, key=self.bytes_of) - 1
            keep = keep if keep >= _LEAST_TOKENS else 0
            self._forget(slot, keep=keep)
            drops.append(Drop(slot=number, keep_tokens=keep))
        return drops

    def _hit(self, slot: _Slot, num_tokens: int) -> None:
        slot.hits = min(slot.hits + 1, _MOST_HITS)
        slot.depth = max(slot.depth, num_tokens)
        slot.last_used = self._now

    def _forget(self, slot: _Slot, *, keep: int) -> None:
        self.counts.evicted += slot.length - keep
        slot.length = keep
        slot.depth = min(slot.depth, keep)
        if slot.depth < _LEAST_TOKENS:
            slot.hits = 0


def _first(common: dict[int, int], count: int) -> int:
    """Return the first number that has `count` tokens in common."""
    return next(number for number, tokens in common.items() if tokens == count)


def _num_equal(one: Tokens, other: Tokens) -> int:
    """Return how many tokens at the beginning of both are the same."""
    count = min(len(one), len(other))
    differ = one[:count] != other[:count]
    first = int(differ.argmax()) if count else 0
    return first if count and differ[first] else count

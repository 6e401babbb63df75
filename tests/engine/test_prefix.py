"""What slots hold: never a strip that is not the prompt's, and never more than the budget."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge_agent.engine.prefix import Copy, Drop, Place, Prefixes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edge_agent.engine.prefix import Tokens

PAGE_TOKENS = 4
TOKEN_BYTES = 10


def bytes_of(tokens: int) -> int:
    return -(-tokens // PAGE_TOKENS) * PAGE_TOKENS * TOKEN_BYTES


def prefixes(*, slots: int = 4, tokens: int = 200, budget_bytes: int = 10_000) -> Prefixes:
    return Prefixes(
        num_slots=slots, most_tokens=tokens, budget_bytes=budget_bytes, bytes_of=bytes_of
    )


def prompt(*parts: tuple[int, int]) -> Tokens:
    """Return tokens: (value, count) for each part."""
    return np.concatenate([np.full(count, value, np.int32) for value, count in parts])


def answered(house: Prefixes, tokens: Tokens, *, offset: int = 0) -> tuple[Place, list[Drop]]:
    """Place a prompt, compute what is left of it, and end."""
    place = house.place(tokens, offset=offset)
    house.share(place.slot)
    house.grow(place.slot, tokens[len(house.held(place.slot)) :].tolist())
    return place, house.finish(place.slot)


SYSTEM = (1, 100)


def test_a_conversation_goes_on_where_it_is() -> None:
    house = prefixes()
    first, _ = answered(house, prompt(SYSTEM, (2, 20)))
    second, _ = answered(house, prompt(SYSTEM, (2, 20), (3, 20)))

    assert second == Place(slot=first.slot, kept_tokens=120, is_clean=True)


def test_a_pinned_beginning_is_copied_from_and_never_a_place() -> None:
    house = prefixes(slots=2)
    house.pin(5, prompt(SYSTEM), offset=0)

    place = house.place(prompt(SYSTEM, (2, 20)), offset=0)

    assert (place.slot, place.kept_tokens) == (0, 0)
    assert house.share(0) == Copy(source=5, target=0, start=0, stop=100)
    assert house.limit(0) == []
    assert house.kept_bytes == 0


def test_a_pinned_beginning_serves_where_nothing_else_is_shared() -> None:
    house = prefixes(budget_bytes=0)
    house.pin(4, prompt(SYSTEM), offset=0)
    answered(house, prompt(SYSTEM, (2, 50)))

    place = house.place(prompt(SYSTEM, (2, 50), (3, 5)), offset=0)

    assert house.share(place.slot) == Copy(source=4, target=place.slot, start=0, stop=100)


def test_a_pinned_beginning_at_other_positions_is_of_no_use() -> None:
    house = prefixes()
    house.pin(4, prompt(SYSTEM), offset=64)
    place = house.place(prompt(SYSTEM, (2, 50)), offset=0)
    assert house.share(place.slot) is None


def test_what_runs_and_what_is_kept_are_told_apart() -> None:
    house = prefixes()
    answered(house, prompt((1, 10)))
    house.place(prompt((2, 30)), offset=0)
    house.grow(1, [2] * 8)
    assert house.running_tokens == 8
    assert house.kept_bytes == bytes_of(10)


def test_a_slot_is_not_pinned() -> None:
    with pytest.raises(ValueError, match="3 is one of 4 slots"):
        prefixes().pin(3, prompt(SYSTEM), offset=0)


def test_another_conversation_with_the_same_beginning_gets_a_copy() -> None:
    house = prefixes()
    first, _ = answered(house, prompt(SYSTEM, (2, 50)))
    place = house.place(prompt(SYSTEM, (3, 50)), offset=0)

    # Rewinding would lose fifty tokens; copying a hundred costs about two.
    assert place == Place(slot=1, kept_tokens=0, is_clean=True)
    assert house.share(1) == Copy(source=first.slot, target=1, start=0, stop=100)
    assert house.share(1) is None


def test_a_short_tail_is_rewound() -> None:
    house = prefixes()
    answered(house, prompt(SYSTEM, (2, 1)))
    place = house.place(prompt(SYSTEM, (3, 50)), offset=0)

    assert place == Place(slot=0, kept_tokens=100, is_clean=False)


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    house = prefixes()
    answered(house, prompt(SYSTEM))
    place = house.place(prompt(SYSTEM), offset=0)

    assert place.kept_tokens == 99
    house.grow(0, [1])
    assert house.share(0) is None


def test_keys_turned_by_other_rows_are_other_keys() -> None:
    house = prefixes()
    answered(house, prompt(SYSTEM))
    place = house.place(prompt(SYSTEM, (2, 1)), offset=4096)

    assert place.kept_tokens == 0
    assert house.share(place.slot) is None


def test_prompts_that_come_together_share_what_the_first_computes() -> None:
    house = prefixes()
    one = house.place(prompt(SYSTEM, (2, 9)), offset=0)
    other = house.place(prompt(SYSTEM, (3, 9)), offset=0)
    house.grow(one.slot, [1] * 64)

    copies = [house.share(slot) for slot in (one.slot, other.slot)]

    assert copies == [None, Copy(source=one.slot, target=other.slot, start=0, stop=64)]
    house.grow(one.slot, [1] * 36 + [2])
    copy = Copy(source=one.slot, target=other.slot, start=64, stop=100)
    assert house.share(other.slot) == copy


def test_prompts_are_kin_until_they_part_or_one_is_read() -> None:
    house = prefixes()
    one = house.place(prompt(SYSTEM, (2, 9)), offset=0).slot
    other = house.place(prompt(SYSTEM, (3, 9)), offset=0).slot
    far = house.place(prompt(SYSTEM, (3, 9)), offset=4096).slot
    assert [house.kin(slot) for slot in (one, other, far)] == [[other], [one], []]

    house.grow(one, [1] * 95)
    assert [house.kin(slot) for slot in (one, other)] == [[], [one]]
    house.share(other)
    assert [house.kin(slot) for slot in (one, other)] == [[], []]

    again = house.place(prompt(SYSTEM, (2, 9)), offset=0).slot
    assert house.kin(again) == [one, other]
    house.grow(one, [1] * 5 + [2] * 9)
    assert house.kin(again) == [other]


def test_without_a_budget_nobody_is_kin() -> None:
    house = prefixes(budget_bytes=0)
    slots = [house.place(prompt(SYSTEM), offset=0).slot for _ in range(2)]

    assert [house.kin(slot) for slot in slots] == [[], []]


def test_what_other_slots_hold_too_is_no_loss() -> None:
    house = prefixes(slots=3)
    answered(house, prompt(SYSTEM, (2, 50)))
    answered(house, prompt(SYSTEM, (3, 50)))
    answered(house, prompt((9, 90)))

    assert house.place(prompt((8, 50)), offset=0).slot != 2


def test_the_same_tokens_with_other_keys_are_a_loss() -> None:
    house = prefixes(slots=3)
    answered(house, prompt(SYSTEM))
    answered(house, prompt(SYSTEM), offset=4096)

    # Each is the only one of its kind, and one slot is empty.
    assert house.place(prompt((9, 40)), offset=0).slot == 2


def test_what_has_been_idle_goes_first() -> None:
    house = prefixes(slots=2)
    answered(house, prompt((9, 120)))
    answered(house, prompt((8, 100)))

    assert house.place(prompt((7, 50)), offset=0).slot == 0


def test_what_prompts_begin_with_outlives_what_none_does() -> None:
    house = prefixes(slots=2)
    answered(house, prompt(SYSTEM, (2, 1)))
    answered(house, prompt(SYSTEM, (3, 1)))
    answered(house, prompt((9, 120)))

    # It is shorter than the other one, and was idle for longer.
    assert house.place(prompt((8, 50)), offset=0).slot == 1


def test_the_last_slot_with_a_shared_beginning_is_evicted_last() -> None:
    house = prefixes(budget_bytes=bytes_of(220))
    answered(house, prompt((5, 100)))
    for tail in (2, 3, 4):
        answered(house, prompt(SYSTEM, (tail, 50)))

    left = [house.held(slot).tolist() for slot in range(4)]
    assert any(tokens[:100] == [1] * 100 for tokens in left)
    assert house.kept_bytes <= bytes_of(220)


def test_what_a_preempted_request_awaits_goes_last() -> None:
    house = prefixes(slots=2)
    place = house.place(prompt((9, 20)), offset=0)
    house.grow(place.slot, [9] * 19)
    assert house.finish(place.slot, awaited_by=5) == []
    answered(house, prompt((8, 100)))

    # By what they are worth, it would be the other way round.
    assert house.place(prompt((7, 50)), offset=0).slot == 1
    house.finish(1)
    assert house.place(prompt((9, 20)), offset=0) == Place(slot=0, kept_tokens=19, is_clean=True)


def test_the_last_to_be_evicted_is_what_is_awaited() -> None:
    house = prefixes()
    place = house.place(prompt((9, 20)), offset=0)
    house.grow(place.slot, [9] * 20)
    house.finish(place.slot, awaited_by=5)
    answered(house, prompt((8, 100)))

    assert house.limit(bytes_of(20)) == [Drop(slot=1, keep_tokens=0)]
    house.abandon(5)
    house.limit(1 << 40)
    answered(house, prompt((8, 100)))
    assert house.limit(bytes_of(100)) == [Drop(slot=0, keep_tokens=0)]


def test_a_prefix_that_does_not_fit_keeps_its_beginning() -> None:
    house = prefixes(budget_bytes=bytes_of(40))
    _, drops = answered(house, prompt(SYSTEM))

    assert drops == [Drop(slot=0, keep_tokens=40)]
    assert house.place(prompt(SYSTEM), offset=0).kept_tokens == 40


def test_a_smaller_limit_holds_until_it_is_lifted() -> None:
    house = prefixes()
    answered(house, prompt(SYSTEM))

    assert house.limit(0) == [Drop(slot=0, keep_tokens=0)]
    assert answered(house, prompt(SYSTEM))[1] == [Drop(slot=0, keep_tokens=0)]
    assert house.limit(1 << 40) == []
    assert answered(house, prompt((2, 2000 // TOKEN_BYTES)))[1] == []


def test_without_a_budget_not_even_running_requests_share() -> None:
    house = prefixes(budget_bytes=0)
    house.grow(house.place(prompt(SYSTEM), offset=0).slot, [1] * 50)
    other = house.place(prompt(SYSTEM), offset=0)

    assert other.kept_tokens == 0
    assert house.share(other.slot) is None


def test_more_requests_than_slots_is_a_mistake() -> None:
    house = prefixes(slots=1)
    house.place(prompt(SYSTEM), offset=0)

    with pytest.raises(ValueError, match="empty"):
        house.place(prompt(SYSTEM), offset=0)


class Gateway(RuleBasedStateMachine):
    """Random requests; an arena of plain lists shows what each slot really contains."""

    @initialize(
        slots=st.integers(1, 4), budget=st.integers(0, 120).map(bytes_of), off=st.booleans()
    )
    def start(self, slots: int, budget: int, off: bool) -> None:
        self.limit_bytes = 0 if off else budget
        self.house = prefixes(slots=slots, tokens=60, budget_bytes=self.limit_bytes)
        self.arena: list[list[tuple[int, int]]] = [[] for _ in range(slots)]
        self.running: dict[int, tuple[Tokens, int]] = {}

    def is_full(self) -> bool:
        return len(self.running) == self.house.num_slots

    def drop(self, drops: Iterable[Drop]) -> None:
        for drop in drops:
            assert drop.slot not in self.running
            assert drop.keep_tokens < len(self.arena[drop.slot])
            del self.arena[drop.slot][drop.keep_tokens :]

    @precondition(lambda self: not self.is_full())
    @rule(
        # Few beginnings, so that prompts have much in common.
        lengths=st.lists(st.sampled_from([1, 9, 12, 14]), min_size=1, max_size=4),
        values=st.lists(st.sampled_from([1, 1, 1, 2]), min_size=4, max_size=4),
        offset=st.sampled_from([0, 0, 0, 7]),
    )
    def arrive(self, lengths: list[int], values: list[int], offset: int) -> None:
        tokens = prompt(*zip(values, lengths, strict=False))
        place = self.house.place(tokens, offset=offset)
        assert place.slot not in self.running
        assert place.is_clean == (len(self.arena[place.slot]) == place.kept_tokens)
        del self.arena[place.slot][place.kept_tokens :]
        self.running[place.slot] = (tokens, offset)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 20))
    def step(self, data: st.DataObject, count: int) -> None:
        slot = data.draw(st.sampled_from(sorted(self.running)))
        tokens, offset = self.running[slot]
        copy = self.house.share(slot)
        if copy:
            assert copy.target == slot != copy.source
            assert copy.start == len(self.arena[slot])
            self.arena[slot] += self.arena[copy.source][copy.start : copy.stop]
            assert len(self.arena[slot]) == copy.stop
        has = len(self.arena[slot])
        assert has < len(tokens) or not copy
        # Of a prompt that is read, one generated token at a time.
        new = tokens[has : has + count].tolist() or [3]
        if has + len(new) <= self.house.most_tokens:
            self.house.grow(slot, new)
            self.arena[slot] += [(token, offset) for token in new]

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[slot]
        self.drop(self.house.finish(slot))

    @rule(limit=st.integers(0, 120).map(bytes_of))
    def be_limited(self, limit: int) -> None:
        before = self.house.kept_bytes
        self.limit_bytes = min(limit, self.house.budget_bytes)
        self.drop(self.house.limit(limit))
        assert self.house.kept_bytes <= before

    @invariant()
    def slots_contain_what_the_books_say(self) -> None:
        for slot, contents in enumerate(self.arena):
            assert self.house.held(slot).tolist() == [token for token, _ in contents]

    @invariant()
    def a_running_prompt_has_its_own_tokens_at_its_own_positions(self) -> None:
        for slot, (tokens, offset) in self.running.items():
            contents = self.arena[slot]
            assert contents[: len(tokens)] == [(t, offset) for t in tokens[: len(contents)]]

    @invariant()
    def kept_prefixes_are_within_the_limit(self) -> None:
        kept = [len(c) for slot, c in enumerate(self.arena) if slot not in self.running]
        assert self.house.kept_bytes == sum(map(bytes_of, kept)) <= self.limit_bytes

    @invariant()
    def every_token_is_accounted_for(self) -> None:
        counts = self.house.counts
        assert counts.computed + counts.copied == counts.evicted + sum(map(len, self.arena))


Gateway.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestGateway = Gateway.TestCase

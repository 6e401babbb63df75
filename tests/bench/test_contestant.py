"""Who takes turns with whom, and who has to leave."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.bench.contestant import Contestant, Heat, Lap, to_rest, turns
from tests.bench.runners.task import Task


def contestant(name: str, memory_bytes: int = 1) -> Contestant:
    return Contestant.of(name, "ours", python="python", memory_bytes=memory_bytes)


A, B, C = contestant("a"), contestant("b"), contestant("c")
SHORT = Lap(name="short", task=Task(kind="prefill", tokens=1), contestants=(A, B))
LONG = Lap(name="long", task=Task(kind="prefill", tokens=9), contestants=(A, B, C))


def test_contestants_take_turns_in_every_round_of_every_lap() -> None:
    order = [
        (turn.round, turn.lap.name, turn.contestant.name)
        for turn in turns(Heat(section="prefill", laps=(SHORT, LONG)), 2)
    ]
    one = [("short", "a"), ("short", "b"), ("long", "a"), ("long", "b"), ("long", "c")]
    assert order == [(number, *each) for number in (1, 2) for each in one]


def test_what_tells_nothing_new_is_not_repeated() -> None:
    once = Heat(section="kv", laps=(SHORT,), most_rounds=1)
    assert [turn.round for turn in turns(once, 3)] == [1, 1]


def test_contestants_with_equal_options_are_one() -> None:
    one = Contestant.of("a", "ours", python="p", memory_bytes=1, slots=1, context=9)
    same = Contestant.of("a", "ours", python="p", memory_bytes=1, context=9, slots=1)
    assert one == same
    assert one != Contestant.of("a", "ours", python="p", memory_bytes=1, slots=2, context=9)


SIZES = st.lists(st.integers(1, 100), max_size=8)


@given(SIZES, st.integers(1, 100), st.integers(0, 300))
def test_as_few_leave_as_make_room_and_the_longest_unused_first(
    sizes: list[int], coming_bytes: int, room_bytes: int
) -> None:
    loaded = [contestant(str(i), size) for i, size in enumerate(sizes)]
    coming = contestant("coming", coming_bytes)
    leaving = to_rest(loaded, coming, room_bytes=room_bytes)
    staying = loaded[len(leaving) :]
    assert list(leaving) == loaded[: len(leaving)]
    if staying:
        assert sum(each.memory_bytes for each in staying) + coming_bytes <= room_bytes
    if leaving:
        fewer = [leaving[-1], *staying]
        assert sum(each.memory_bytes for each in fewer) + coming_bytes > room_bytes

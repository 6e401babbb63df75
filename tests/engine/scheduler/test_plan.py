"""A step's plan: decode rows first, then one chunk of prompts, the shortest and the oldest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.scheduler.pace import Pace
from edge_agent.engine.scheduler.plan import SlotState, Work, plan

# Beside decoding rows a chunk of 8 tokens keeps the pace.
PACE = Pace(decode_step_s={1: 0.2}, prompt_token_s=0.1)


def state(
    slot: int, arrival: int, unread: int, *, rank: int = 0, kin: tuple[int, ...] = ()
) -> SlotState:
    return SlotState(slot=slot, arrival=arrival, unread=unread, rank=rank, kin=kin)


def planned(*running: SlotState) -> dict[int, int]:
    work = plan(running, pace=PACE, chunk_tokens=64, kept_pace=0.5)
    return {item.slot: item.num_tokens for item in work}


def test_nothing_running_is_an_empty_plan() -> None:
    assert plan([], pace=PACE, chunk_tokens=64, kept_pace=0.5) == ()


def test_running_answers_get_a_token_beside_a_chunk_that_keeps_their_pace() -> None:
    running = [state(0, 5, 1000), state(1, 1, 0), state(2, 3, 500)]

    assert plan(running, pace=PACE, chunk_tokens=64, kept_pace=0.5) == (
        Work(slot=1, num_tokens=1),
        Work(slot=2, num_tokens=8),
    )


def test_a_prompt_alone_gets_the_whole_chunk() -> None:
    assert planned(state(0, 0, 1000)) == {0: 64}


def test_short_prompts_share_a_chunk() -> None:
    assert planned(state(0, 0, 20), state(1, 1, 30), state(2, 2, 40)) == {0: 20, 1: 30, 2: 14}


def test_a_short_prompt_does_not_wait_for_a_long_one_and_the_long_one_goes_on() -> None:
    assert planned(state(0, 0, 4000), state(1, 1, 40)) == {0: 24, 1: 40}
    assert planned(state(0, 0, 4000), state(1, 1, 400)) == {0: 16, 1: 48}


def test_higher_ranks_are_read_first() -> None:
    low, high = state(0, 1, 10), state(1, 2, 600, rank=2)

    assert planned(state(5, 0, 900, rank=2), low, high) == {5: 16, 1: 48}


def test_of_prompts_that_go_on_alike_one_reads() -> None:
    one, other = state(0, 0, 500, kin=(1,)), state(1, 1, 400, kin=(0,))

    assert planned(one, other, state(2, 2, 900)) == {1: 64}


STATES = st.lists(
    st.builds(
        state,
        st.integers(0, 63),
        st.integers(0, 99),
        st.integers(0, 300),
        rank=st.integers(0, 3),
    ),
    unique_by=(lambda s: s.slot, lambda s: s.arrival),
)
PACES = st.builds(
    Pace,
    decode_step_s=st.dictionaries(st.integers(1, 64), st.floats(1e-6, 10), min_size=1).map(
        lambda known: {1: 1e-3, **known}
    ),
    prompt_token_s=st.floats(1e-6, 10),
    unmeasured=st.integers(0, 31),
)


@given(STATES, PACES, st.integers(1, 256))
def test_every_plan_moves_on_and_stays_in_bounds(
    running: list[SlotState], pace: Pace, chunk_tokens: int
) -> None:
    work = plan(running, pace=pace, chunk_tokens=chunk_tokens, kept_pace=0.5)
    by_slot = {item.slot: item.num_tokens for item in work}
    prompts = {s.slot: s for s in running if s.unread}
    read = {slot: n for slot, n in by_slot.items() if slot in prompts}
    decoding = [s.slot for s in running if not s.unread]

    assert len(by_slot) == len(work)
    assert bool(work) == bool(running)
    assert all(by_slot[slot] == 1 for slot in decoding)
    assert all(0 < n <= prompts[slot].unread for slot, n in read.items())
    most = min(chunk_tokens, sum(s.unread for s in prompts.values()))
    assert sum(read.values()) <= most
    assert sum(read.values()) == most or decoding
    if prompts:
        oldest = min(prompts.values(), key=lambda s: s.arrival)
        assert read[oldest.slot] >= min(oldest.unread, -(-sum(read.values()) // 4))


@given(STATES, st.integers(1, 256), st.data())
def test_one_of_those_that_go_on_alike_always_reads(
    running: list[SlotState], chunk_tokens: int, data: st.DataObject
) -> None:
    """Kin is whatever it is, mutual or not: no prompts wait for each other in a circle."""
    slots = [s.slot for s in running if s.unread]
    kin = st.lists(st.sampled_from(slots or [0]), unique=True)
    tied = [
        state(s.slot, s.arrival, s.unread, kin=tuple(data.draw(kin)) if s.unread else ())
        for s in running
    ]
    work = plan(tied, pace=PACE, chunk_tokens=chunk_tokens, kept_pace=0.5)

    assert not slots or any(item.slot in slots for item in work)

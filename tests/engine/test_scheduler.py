"""A step's plan: decode rows first, one chunk of prompts, the oldest first."""

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.scheduler import SlotState, Work, plan


def state(slot: int, arrival: int, prompt_left: int) -> SlotState:
    return SlotState(slot=slot, arrival=arrival, prompt_left=prompt_left)


def test_nothing_running_is_an_empty_plan() -> None:
    assert plan([], chunk_tokens=64) == ()


def test_running_answers_get_a_token_beside_one_chunk_of_the_oldest_prompt() -> None:
    running = [state(0, 5, 1000), state(1, 1, 0), state(2, 3, 500)]

    assert plan(running, chunk_tokens=64) == (
        Work(slot=1, num_tokens=1),
        Work(slot=2, num_tokens=64),
    )


def test_short_prompts_share_a_chunk() -> None:
    running = [state(0, 0, 20), state(1, 1, 30), state(2, 2, 40)]

    assert [work.num_tokens for work in plan(running, chunk_tokens=64)] == [20, 30, 14]


STATES = st.lists(
    st.builds(state, st.integers(0, 63), st.integers(0, 99), st.integers(0, 300)),
    unique_by=lambda s: s.slot,
)


@given(STATES, st.integers(1, 256))
def test_every_plan_moves_on_and_stays_in_bounds(
    running: list[SlotState], chunk_tokens: int
) -> None:
    work = plan(running, chunk_tokens=chunk_tokens)
    by_slot = {item.slot: item.num_tokens for item in work}
    prompts = {s.slot: s.prompt_left for s in running if s.prompt_left}

    assert len(by_slot) == len(work)
    assert bool(work) == bool(running)
    assert all(by_slot.get(s.slot) == 1 for s in running if s.prompt_left == 0)
    assert all(0 < n <= prompts[slot] for slot, n in by_slot.items() if slot in prompts)
    assert sum(n for slot, n in by_slot.items() if slot in prompts) == min(
        chunk_tokens, sum(prompts.values())
    )

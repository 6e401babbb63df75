"""How long steps take is learned, and chunks beside answers leave those their pace."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.engine.scheduler.pace import Pace
from edge_agent.engine.scheduler.pace import room_for_prompts as room_at_pace

KEPT_PACE = 0.5


def room_for_prompts(pace: Pace, *, answers: int, chunk_tokens: int) -> int:
    return room_at_pace(pace, answers=answers, chunk_tokens=chunk_tokens, kept_pace=KEPT_PACE)


def test_how_much_pace_is_kept_is_a_choice() -> None:
    pace = Pace(decode_step_s={1: 0.09}, prompt_token_s=0.01)
    rooms = [
        room_at_pace(pace, answers=1, chunk_tokens=128, kept_pace=kept) for kept in (0, 0.25, 0.9)
    ]

    assert rooms == [128, 108, 4]
    assert room_at_pace(Pace(), answers=1, chunk_tokens=128, kept_pace=0) == 128


def test_prompts_alone_get_the_whole_chunk() -> None:
    assert room_for_prompts(Pace(), answers=0, chunk_tokens=128) == 128


def test_what_decoding_takes_is_measured_before_anything_is_read_beside_it() -> None:
    pace = Pace().after(answers=0, prompt_tokens=100, took_s=2.0, kept_pace=KEPT_PACE)
    assert room_for_prompts(pace, answers=2, chunk_tokens=128) == 0

    pace = pace.after(answers=2, prompt_tokens=0, took_s=0.1, kept_pace=KEPT_PACE)
    assert room_for_prompts(pace, answers=2, chunk_tokens=128) == 20
    assert room_for_prompts(pace, answers=8, chunk_tokens=128) == 20
    assert room_for_prompts(pace, answers=1, chunk_tokens=128) == 0


def test_a_first_chunk_beside_answers_is_small() -> None:
    pace = Pace().after(answers=1, prompt_tokens=0, took_s=0.1, kept_pace=KEPT_PACE)

    assert room_for_prompts(pace, answers=1, chunk_tokens=128) == 16
    pace = pace.after(answers=1, prompt_tokens=16, took_s=0.26, kept_pace=KEPT_PACE)
    assert pace.prompt_token_s == pytest.approx(0.01)


def test_a_prompt_always_goes_on() -> None:
    pace = Pace(decode_step_s={1: 0.001}, prompt_token_s=5.0)

    assert room_for_prompts(pace, answers=1, chunk_tokens=128) == 1


def test_one_step_that_waited_for_a_disk_changes_little() -> None:
    pace = Pace(decode_step_s={1: 0.1}, prompt_token_s=0.01)
    after = pace.after(answers=1, prompt_tokens=0, took_s=60.0, kept_pace=KEPT_PACE)

    assert after.decode_s(1) == pytest.approx(0.12)


def test_a_clock_that_stands_still_is_survived() -> None:
    pace = Pace().after(answers=0, prompt_tokens=10, took_s=0.0, kept_pace=KEPT_PACE)
    pace = pace.after(answers=1, prompt_tokens=0, took_s=0.0, kept_pace=KEPT_PACE)

    assert 1 <= room_for_prompts(pace, answers=1, chunk_tokens=64) <= 64


def test_a_chunk_is_paid_back_before_the_next() -> None:
    pace = Pace(decode_step_s={1: 0.125}, prompt_token_s=1 / 64)
    pace = pace.after(answers=1, prompt_tokens=32, took_s=0.625, kept_pace=KEPT_PACE)
    rooms = []
    for _ in range(5):
        rooms.append(room_for_prompts(pace, answers=1, chunk_tokens=128))
        pace = pace.after(answers=1, prompt_tokens=0, took_s=0.125, kept_pace=KEPT_PACE)

    assert rooms == [0, 0, 0, 32, 32]
    # Nobody is owed anything where nobody answers.
    pace = pace.after(answers=1, prompt_tokens=32, took_s=0.625, kept_pace=KEPT_PACE)
    pace = pace.after(answers=0, prompt_tokens=32, took_s=0.5, kept_pace=KEPT_PACE)
    assert pace.owed_s == 0


@dataclass
class Machine:
    """Steps that cost what a real one's do: more for more rows, and for each token read."""

    row_s: float
    token_s: float
    chunk_s: float = 0.0
    """What a step with more than the rows that decode takes more, however few those are."""
    slowdown: float = 1.0
    pace: Pace = field(default_factory=Pace)

    def decode_s(self, answers: int) -> float:
        return self.slowdown * self.row_s * (0.6 + 0.4 * answers)

    def step(self, answers: int, unread: int, chunk_tokens: int) -> tuple[int, float]:
        """Return the tokens that were read, and the seconds of the step."""
        room = room_for_prompts(self.pace, answers=answers, chunk_tokens=chunk_tokens)
        read = min(unread, room)
        chunk_s = (self.chunk_s + read * self.token_s) if read else 0.0
        took_s = self.slowdown * chunk_s + (self.decode_s(answers) if answers else 0.0)
        self.pace = self.pace.after(
            answers=answers, prompt_tokens=read, took_s=took_s, kept_pace=KEPT_PACE
        )
        return read, took_s


@given(
    row_s=st.floats(1e-3, 1.0),
    tokens_per_row=st.floats(0.5, 300.0),
    chunk_rows=st.floats(0.0, 3.0),
    answers=st.lists(st.integers(1, 8), min_size=1, max_size=6),
    slowdown=st.floats(0.3, 3.0),
)
# Few chunks, each far dearer than the prompt that was read alone: slow to be learned.
@example(row_s=0.16, tokens_per_row=1.0, chunk_rows=2.0, answers=[1], slowdown=3.0)
@settings(deadline=None)
def test_answers_keep_half_of_their_pace_on_any_machine(
    row_s: float, tokens_per_row: float, chunk_rows: float, answers: list[int], slowdown: float
) -> None:
    machine = Machine(row_s=row_s, token_s=row_s / tokens_per_row, chunk_s=chunk_rows * row_s)
    machine.step(0, 128, 128)
    for number in answers:
        machine.slowdown = slowdown if number % 2 else 1.0
        for _ in range(120):  # learn what is new from twenty chunks or so: each is paid back
            machine.step(number, 10_000, 128)
        steps = [machine.step(number, 10_000, 128) for _ in range(128)]
        spent_s = sum(took_s for _, took_s in steps)
        alone_s = machine.decode_s(number)
        read = sum(tokens for tokens, _ in steps)
        longest_s = max(took_s for _, took_s in steps)

        # What was paid back before, and not yet at the end, is one chunk at most.
        assert spent_s <= 128 * alone_s / KEPT_PACE * 1.02 + longest_s
        dearest_s = machine.slowdown * (machine.chunk_s + machine.token_s)
        assert longest_s <= max(6.5 * alone_s, alone_s + dearest_s * 1.001)
        # And prompts use what they may, unless the chunk ends before.
        assert spent_s >= 128 * alone_s * 1.3 or read >= 128 * 20

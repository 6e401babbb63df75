"""The engine's turns on a model that needs no weights: shares, pauses, deadlines, and every end."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import Overloaded
from edge_agent.messages import Delta, Done, Failed, Priority
from tests.engine.fake_model import CONTEXT, TOKEN_BYTES, VOCAB, Costs, fake_engine, prepared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.engine.answer import Prepared
    from edge_agent.engine.engine import Engine
    from edge_agent.messages import Event
    from tests.engine.fake_model import Clock, FakeDecoder

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW
KEPT_PACE = 0.5
NOWHERE = Path(tempfile.gettempdir())


def run(engine: Engine, *, steps: int | None = None) -> dict[str, list[Event]]:
    told: dict[str, list[Event]] = {}
    while engine.busy and steps != 0:
        for name, event in engine.step():
            told.setdefault(name, []).append(event)
        steps = None if steps is None else steps - 1
    return told


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


@lru_cache(maxsize=4096)
def text_alone(prompt: tuple[int, ...], max_tokens: int, temperature: float) -> str:
    """Return the answer that a request gets with an engine to itself."""
    with pytest.MonkeyPatch.context() as patch:
        engine, _, _ = fake_engine(patch, NOWHERE, slots=1, prefix_bytes=0)
        engine.submit(prepared("a", prompt, max_tokens=max_tokens, temperature=temperature))
        return text_of(run(engine)["a"])


def alone(request: Prepared) -> str:
    temperature = request.sampling.temperature or 0.0
    return text_alone(tuple(request.prompt), request.max_tokens, temperature)


def test_the_urgent_take_the_slot_of_the_low_who_go_on_where_they_were(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, decoder, _ = fake_engine(monkeypatch, tmp_path, slots=1)
    low = prepared("low", range(2, 22), max_tokens=20, temperature=1.0, priority=LOW)
    engine.submit(low)
    told = run(engine, steps=6)["low"]
    engine.submit(prepared("high", [3, 3, 3], max_tokens=4, priority=HIGH))

    turn = engine.turn()
    assert (turn.started, turn.paused) == (("high",), ("low",))
    assert engine.turn() is turn
    assert (engine.running, engine.waiting) == (("high",), 1)
    high = run(engine, steps=4)["high"]
    assert isinstance(high[-1], Done)
    computed = decoder.computed
    turn = engine.turn()
    assert (turn.started, turn.paused) == (("low",), ())
    told += run(engine)["low"]

    assert text_of(told) == alone(low)
    done = told[-1]
    assert isinstance(done, Done)
    assert done.usage.completion_tokens == len(alone(low)) == 20
    assert done.usage.cached_tokens == 0
    # The first five came of six steps, two of them for the prompt: nothing is computed again.
    assert decoder.computed - computed == 20 - 5
    assert done.timings.queue_s > 0


def test_what_memory_did_not_allow_to_keep_is_computed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, _, _ = fake_engine(monkeypatch, tmp_path, slots=1)
    low = prepared("low", range(2, 22), max_tokens=20, temperature=1.0, priority=LOW)
    engine.submit(low)
    told = run(engine, steps=6)["low"]
    engine.submit(prepared("high", [3, 3, 3], max_tokens=4, priority=HIGH))
    run(engine, steps=1)
    assert engine.shrink_prefixes(0) == 24 * TOKEN_BYTES
    told += run(engine)["low"]

    assert text_of(told) == alone(low)


def test_a_paused_request_can_be_cancelled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    engine, _, _ = fake_engine(monkeypatch, tmp_path, slots=1)
    engine.submit(prepared("low", range(1, 21), priority=LOW))
    run(engine, steps=3)
    engine.submit(prepared("high", [3, 3, 3], priority=HIGH))
    run(engine, steps=1)
    engine.cancel("low")
    told = run(engine)

    assert [type(event) for event in told["low"]] == [Failed]
    assert isinstance(told["high"][-1], Done)
    assert not engine._slots._shares.served


@pytest.mark.parametrize(("slots", "code"), [(2, "deadline_exceeded"), (1, "expired")])
def test_deadlines_end_requests_that_run_and_that_wait(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slots: int, code: str
) -> None:
    engine, decoder, clock = fake_engine(monkeypatch, tmp_path, slots=slots)
    engine.submit(prepared("long", [5] * 40, max_tokens=50))
    late = prepared("late", range(1, 5), max_tokens=50, deadline_s=1.5)
    engine.submit(late)
    told: list[tuple[float, Event]] = []
    while engine.busy:
        told += [(clock.now_s, event) for name, event in engine.step() if name == "late"]

    _, failed = told[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message) == (code, failed.message)
    assert "deadline of 1.5 s passed" in failed.message
    assert all(now_s < 1.5 for now_s, _ in told[:-1])
    assert alone(late).startswith(text_of([event for _, event in told]))
    assert bool(told[:-1]) is (slots == 2)
    assert decoder.arena.used_bytes == engine.kept_bytes


def test_a_token_that_comes_after_the_deadline_is_not_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, _, _ = fake_engine(monkeypatch, tmp_path)
    engine.submit(prepared("late", range(1, 5), deadline_s=0.05))

    assert engine.step() == []  # it was over in the middle of this one
    [(_, failed)] = engine.step()
    assert isinstance(failed, Failed)
    assert not engine.busy


def test_a_client_with_many_requests_does_not_lock_out_one_with_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, _, _ = fake_engine(monkeypatch, tmp_path, slots=2)
    for number in range(20):
        engine.submit(prepared(f"many-{number}", [number + 1] * 5, client="many"))
    run(engine, steps=2)
    engine.submit(prepared("one", [9] * 5, client="one"))
    ended = [name for name, events in in_order(engine) if isinstance(events, Done | Failed)]

    assert ended.index("one") <= 3


def in_order(engine: Engine) -> list[tuple[str, Event]]:
    told = []
    while engine.busy:
        told += engine.step()
    return told


def test_a_full_line_is_refused_whoever_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine, _, _ = fake_engine(monkeypatch, tmp_path, queue_requests=2)
    for name in "ab":
        engine.submit(prepared(name, [1, 2]))

    with pytest.raises(Overloaded, match="2 requests are waiting"):
        engine.submit(prepared("c", [1, 2], priority=HIGH))
    run(engine)
    engine.close()
    assert not engine.busy


@pytest.mark.parametrize("token_s", [0.001, 0.01, 0.03])
def test_running_answers_keep_half_of_their_pace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_s: float
) -> None:
    costs = Costs(token_s=token_s)
    engine, _, clock = fake_engine(
        monkeypatch, tmp_path, costs=costs, chunk_tokens=128, prefix_bytes=0
    )
    engine.submit(prepared("answer", [1, 2, 3], max_tokens=90))
    run(engine, steps=4)
    began_s = clock.now_s
    for number in range(30):
        engine.submit(prepared(str(number), [number % VOCAB] * 60, max_tokens=1))
    told = run(engine, steps=40)["answer"]

    spent_s = (clock.now_s - began_s) / len(text_of(told))
    alone_s = costs.step_s + costs.row_s
    assert spent_s <= alone_s / KEPT_PACE * 1.1
    assert spent_s >= alone_s * 1.3  # the prompts were read, too


@dataclass(frozen=True)
class Arrival:
    """What somebody does, and after how many steps since the one before."""

    after: int
    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float
    priority: Priority
    client: str
    deadline_s: float | None
    leaves_after: int | None


# Few beginnings, so that prompts have much in common.
PROMPTS = st.lists(st.sampled_from([(1,) * 12, (2,) * 9, (3, 4) * 10, (5,)]), min_size=1).map(
    lambda parts: tuple(token for part in parts for token in part)[: CONTEXT - 10]
)
ARRIVALS = st.lists(
    st.builds(
        Arrival,
        after=st.integers(0, 6),
        prompt=PROMPTS,
        max_tokens=st.integers(1, 30),
        temperature=st.sampled_from([0.0, 1.0]),
        priority=st.sampled_from(Priority),
        client=st.sampled_from(["a", "b", "c"]),
        deadline_s=st.none() | st.floats(0.01, 20.0),
        leaves_after=st.none() | st.integers(0, 40),
    ),
    min_size=1,
    max_size=24,
)


class House:
    """An engine, those who come and go, and what everybody was told."""

    def __init__(
        self, made: tuple[Engine, FakeDecoder, Clock], *, kept_bytes: int, draft_tokens: int
    ) -> None:
        self.engine, self.decoder, self.clock = made
        self.most_kept_bytes = kept_bytes
        # What drafts that failed wrote is overwritten by what comes next, and not given back.
        self.spoilt_bytes = self.decoder.slots * draft_tokens * TOKEN_BYTES
        self.requests: dict[str, Prepared] = {}
        self.told: dict[str, list[Event]] = {}
        self.due_s: dict[str, float] = {}
        self.leaves: dict[str, int] = {}
        self.holding: Counter[str] = Counter()

    def take_in(self, one: Arrival, step: int) -> None:
        name = str(len(self.requests))
        self.requests[name] = prepared(
            name, one.prompt, max_tokens=one.max_tokens, temperature=one.temperature,
            priority=one.priority, client=one.client, deadline_s=one.deadline_s,
        )  # fmt: skip
        self.engine.submit(self.requests[name])
        self.due_s[name] = self.clock.now_s + (one.deadline_s or 1e9)
        if one.leaves_after is not None:
            self.leaves[name] = step + one.leaves_after

    def let_go(self, step: int) -> None:
        for name in [name for name, at in self.leaves.items() if at <= step]:
            del self.leaves[name]
            self.engine.cancel(name)

    def shrink(self) -> None:
        self.engine.shrink_prefixes(0)
        self.most_kept_bytes = 0

    def step(self) -> None:
        turn = self.engine.turn()
        self.holding.update(turn.started)
        self.holding.subtract(turn.paused)
        assert set(self.holding.values()) <= {0, 1}
        for name, event in self.engine.step():
            self.told.setdefault(name, []).append(event)
            assert isinstance(event, Failed) or self.clock.now_s < self.due_s[name]
            if isinstance(event, Done | Failed):
                self.holding[name] = 0

        assert {name for name, has in self.holding.items() if has} >= set(self.engine.running)
        assert len(self.engine.running) <= self.engine.slots
        assert self.engine.kept_bytes <= self.most_kept_bytes
        most_bytes = self.engine.slots * CONTEXT * TOKEN_BYTES + self.most_kept_bytes
        assert self.decoder.arena.used_bytes <= most_bytes + self.spoilt_bytes

    def check_end(self, name: str) -> None:
        """Check that a request ended once, with what it would have been told alone."""
        *rest, last = self.told[name]
        request = self.requests[name]
        assert not any(isinstance(event, Done | Failed) for event in rest)
        if isinstance(last, Done):
            assert text_of(rest) == alone(request)
            assert 0 <= last.usage.cached_tokens < len(request.prompt)
        else:
            assert isinstance(last, Failed)
            assert alone(request).startswith(text_of(rest))
            assert last.code in {"cancelled", "expired", "deadline_exceeded"}

    def check_empty(self) -> None:
        slots, kept = self.engine._slots, self.engine._prefixes._slots
        assert not any((slots.running, slots.waiting, slots._holding, slots._shares.served))
        assert all(slot.prompt is None and slot.awaited_by is None for slot in kept)
        used_bytes = self.decoder.arena.used_bytes
        assert 0 <= used_bytes - self.engine.kept_bytes <= self.spoilt_bytes


KNOBS = st.fixed_dictionaries(
    {
        "slots": st.integers(1, 4),
        "prefix_bytes": st.integers(0, CONTEXT).map(lambda tokens: tokens * TOKEN_BYTES),
        "ageing_s": st.floats(0.5, 60.0),
        "chunk_tokens": st.sampled_from([8, 16, 64]),
        "draft_tokens": st.sampled_from([0, 3]),
    }
)


@given(arrivals=ARRIVALS, knobs=KNOBS, shrunk_at=st.none() | st.integers(0, 60))
@settings(deadline=None)
def test_every_request_ends_once_with_the_text_it_would_have_alone(
    arrivals: list[Arrival], knobs: dict[str, Any], shrunk_at: int | None
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        made = fake_engine(patch, NOWHERE, **knobs)
    house = House(made, kept_bytes=knobs["prefix_bytes"], draft_tokens=knobs["draft_tokens"])
    come_at = list(accumulate(one.after for one in arrivals))
    for step in range(5000):
        for one, at in zip(arrivals, come_at, strict=True):
            if at == step:
                house.take_in(one, step)
        house.let_go(step)
        if step == shrunk_at:
            house.shrink()
        house.step()
        if step >= come_at[-1] and not house.engine.busy:
            break

    assert set(house.told) == set(house.requests)
    for name in house.requests:
        house.check_end(name)
    house.check_empty()

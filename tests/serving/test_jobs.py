from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from edge_agent.config import Config, Engine
from edge_agent.config import Journal as Limits
from edge_agent.errors import (
    Draining,
    EngineCrashed,
    InvalidRequest,
    Loading,
    PeerFailed,
    Pressure,
)
from edge_agent.messages import Failed, Priority
from edge_agent.serving import runner, turns
from edge_agent.serving.journal_file import JournalFile
from tests.serving.drafts import Clock, draft, request
from tests.serving.scripted import answer, crash_after, house, until

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.errors import EdgeError

CRASH = EngineCrashed("signal 9")
DISK_FULL = "database or disk is full"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(turns, "LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr(runner, "STORE_AGAIN_S", 0.01)


async def test_a_job_is_answered_and_its_result_waits_to_be_sent(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        await h.jobs.start()
        taken, before = await h.jobs.submit(draft("a", "hello"))
        results = await h.results(1)

    assert (taken.is_new, before) == (True, 0)
    assert results["a"]["type"] == "result"
    assert results["a"]["text"] == "HELLO"
    assert h.outlet.ready == [taken.ticket.seq]


async def test_the_result_counts_the_deltas_before_it(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["hi"] = [answer("one ", "two")]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi", request=request("a", "hi", stream=True)))
        results = await h.results(1)

    assert h.outlet.texts == {("a", 1): ["one ", "two"]}
    assert (results["a"]["seq"], results["a"]["text"]) == (2, "one two")


async def test_jobs_run_in_order_and_no_more_at_once_than_slots_and_one(
    tmp_path: Path, clock: Clock
) -> None:
    names = [f"n{number}" for number in range(12)]
    async with house(tmp_path, clock, Config(engine=Engine(slots=2))) as h:
        for name in names:
            await h.jobs.submit(draft(name, name))
        await h.jobs.start()
        await h.results(12)

    assert h.backend.started == names
    assert max(map(len, h.backend.together)) <= 3


async def test_an_urgent_job_passes_those_that_run_and_those_that_wait(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock, Config(engine=Engine(slots=1))) as h:
        h.backend.gate.clear()
        await h.jobs.start()
        for name in ("r1", "r2", "w1", "w2"):
            await h.jobs.submit(draft(name, name))
        await until(lambda: len(h.backend.started) == 2)
        urgent = replace(request("urgent"), priority=Priority.HIGH)
        _, before = await h.jobs.submit(draft("urgent", request=urgent))
        await until(lambda: len(h.backend.started) == 3)
        _, last = await h.jobs.submit(draft("w3", "w3"))
        h.backend.gate.set()
        await h.results(6)

    assert h.backend.started == ["r1", "r2", "urgent", "w1", "w2", "w3"]
    assert (before, last) == (2, 5)


async def test_a_crash_runs_the_job_again_as_the_next_attempt(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["hi"] = [crash_after("half", error=CRASH), answer("whole")]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi", request=request("a", "hi", stream=True)))
        results = await h.results(1)

    assert (results["a"]["text"], results["a"]["attempt"]) == ("whole", 2)
    assert h.outlet.texts == {("a", 1): ["half"], ("a", 2): ["whole"]}


@pytest.mark.parametrize(
    "error", [Pressure("memory is hard", 30), PeerFailed("attic", "ended in the middle")]
)
async def test_a_job_that_gave_way_runs_again_from_its_first_word(
    tmp_path: Path, clock: Clock, error: EdgeError
) -> None:
    async with house(tmp_path, clock) as home:
        home.backend.scripts["hello"] = [crash_after("half ", error=error), answer("all of it")]
        await home.jobs.start()
        await home.jobs.submit(draft("a", "hello", request=request("a", "hello", stream=True)))
        result = (await home.results(1))["a"]
    assert (result["text"], result["attempt"], result["seq"]) == ("all of it", 2, 1)
    assert home.outlet.texts == {("a", 1): ["half "], ("a", 2): ["all of it"]}


async def test_three_crashes_make_a_job_poison_and_blame_no_neighbour(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["bad"] = [crash_after(error=CRASH) for _ in range(3)]
        await h.jobs.submit(draft("bad", "bad"))
        for number in range(6):
            await h.jobs.submit(draft(f"n{number}", f"n{number}"))
        await h.jobs.start()
        results = await h.results(7)

    assert results.pop("bad")["code"] == "poison"
    assert {result["type"] for result in results.values()} == {"result"}
    assert frozenset({"bad"}) in h.backend.together, "its last try was alone"
    assert h.backend.started.count("bad") == 3


async def test_an_engine_that_is_not_ready_costs_a_job_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["hi"] = [[Failed.of(Loading("loading", 20))] for _ in range(5)]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        results = await h.results(1)

    assert (results["a"]["type"], results["a"]["attempt"]) == ("result", 1)


async def test_what_the_engine_refuses_for_good_is_the_result(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["hi"] = [[Failed.of(InvalidRequest("no good", "messages"))]]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        results = await h.results(1)

    assert results["a"]["code"] == "invalid_request"
    assert not results["a"]["retryable"]


async def test_a_bug_in_the_engine_is_an_internal_error_and_nothing_more(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.scripts["hi"] = [[]]  # no Done, which no backend may do
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        await h.jobs.submit(draft("b", "next"))
        results = await h.results(2)

    assert results["a"]["code"] == "internal"
    assert results["b"]["text"] == "NEXT"


async def test_a_job_past_its_deadline_is_never_run(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        await h.jobs.submit(draft("late", "late", deadline_s=5))
        await h.jobs.submit(draft("timely", "timely"))
        clock.forward(6)
        await h.jobs.start()
        results = await h.results(2)

    assert results["late"]["code"] == "expired"
    assert h.backend.started == ["timely"]


async def test_a_job_that_waits_can_be_cancelled(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock, Config(engine=Engine(slots=1))) as h:
        h.backend.gate.clear()
        await h.jobs.start()
        for name in ("r1", "r2", "w"):
            await h.jobs.submit(draft(name, name))
        await until(lambda: len(h.backend.started) == 2)

        assert await h.jobs.cancel("mqtt", job_id="w", correlation=None)
        results = await h.results(1)

    assert results["w"]["code"] == "cancelled"
    assert "w" not in h.backend.started


async def test_cancelling_a_job_that_runs_stops_the_engine(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.gate.clear()
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi", correlation=b"c"))
        await until(lambda: h.backend.started == ["a"])

        assert await h.jobs.cancel("mqtt", job_id=None, correlation=b"c")
        results = await h.results(1)

    assert results["a"]["code"] == "cancelled"
    assert h.backend.closed == ["a"]


async def test_a_correlation_that_two_clients_use_cancels_neither(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        await h.jobs.submit(draft("a", correlation=b"1"))
        await h.jobs.submit(draft("b", correlation=b"1"))

        assert not await h.jobs.cancel("mqtt", job_id=None, correlation=b"1")
        assert not await h.jobs.cancel("mqtt", job_id="unknown", correlation=None)
        assert h.jobs.open == 2


async def test_closing_puts_running_jobs_back_without_blame(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.backend.gate.clear()
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        await until(lambda: h.backend.started == ["a"])

    async with house(tmp_path, clock) as again:
        [ticket] = await again.journal.replay(())

    assert (ticket.id, ticket.crashes, ticket.attempt) == ("a", 0, 2)


async def test_draining_lets_running_jobs_finish_and_starts_no_other(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock, Config(engine=Engine(slots=1))) as h:
        h.backend.gate.clear()
        await h.jobs.start()
        for name in ("r1", "r2", "w"):
            await h.jobs.submit(draft(name, name))
        await until(lambda: len(h.backend.started) == 2)
        h.backend.gate.set()
        await h.jobs.drain()
        results = await h.results(2)

    assert set(results) == {"r1", "r2"}
    assert h.jobs.open == 1


async def test_the_next_daemon_answers_what_this_one_accepted(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        for name in "abc":
            await h.jobs.submit(draft(name, name))

    async with house(tmp_path, clock) as again:
        await again.jobs.start()
        results = await again.results(3)

    assert {name: result["text"] for name, result in results.items()} == {
        "a": "A",
        "b": "B",
        "c": "C",
    }


async def test_a_job_that_took_three_daemons_with_it_is_poison(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        taken, _ = await h.jobs.submit(draft("a", "hi"))
        await h.journal.start(taken.ticket)
    for _ in range(2):
        async with house(tmp_path, clock) as h:
            [ticket] = await h.journal.replay(())
            await h.journal.start(ticket)

    async with house(tmp_path, clock) as h:
        await h.jobs.start()
        results = await h.results(1)

    assert results["a"]["code"] == "poison"
    assert h.backend.started == []


async def test_daemons_that_die_while_the_model_loads_blame_no_job(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        await h.jobs.submit(draft("a", "hi"))
    for _ in range(5):
        async with house(tmp_path, clock) as h:
            h.backend.scripts["hi"] = [[Failed.of(Loading("loading", 20))] for _ in range(99)]
            await h.jobs.start()
            await h.backend.was_asked(2)
            # What a process leaves behind that is killed now:
            [ticket] = await h.journal.replay(())
            assert ticket.crashes == 0


async def test_a_repeat_of_an_answered_request_sends_the_same_bytes(
    tmp_path: Path, clock: Clock
) -> None:
    async with house(tmp_path, clock) as h:
        await h.jobs.start()
        taken, _ = await h.jobs.submit(draft("a", "hi"))
        first = await h.results(1)
        await h.jobs.published(taken.ticket.seq)

        repeat, _ = await h.jobs.submit(draft("a", "hi"))

        assert repeat.is_done
        assert await h.results(1) == first
        assert h.backend.started == ["a"]


async def test_an_answer_no_message_may_carry_is_an_error(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock) as h:
        h.outlet.largest_body_bytes = 2000
        h.backend.scripts["hi"] = [answer("x" * 3000)]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        results = await h.results(1)

    assert results["a"]["code"] == "result_too_large"


async def test_a_result_is_announced_only_when_the_disk_has_it(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0

    def fail(*_: object) -> bool:
        nonlocal attempts
        attempts += 1
        raise sqlite3.OperationalError(DISK_FULL)

    async with house(tmp_path, clock) as h:
        await h.jobs.start()
        with monkeypatch.context() as broken:
            broken.setattr(JournalFile, "finish", fail)
            await h.jobs.submit(draft("a", "hi"))
            await until(lambda: attempts > 2)
            assert h.outlet.ready == []
            assert h.jobs.durability == "none"
        results = await h.results(1)
        await until(lambda: len(h.outlet.ready) == 1)

    assert results["a"]["text"] == "HI"
    assert h.backend.started == ["a"], "the answer was kept, not computed anew"


async def test_a_daemon_that_goes_down_puts_refused_jobs_back(tmp_path: Path, clock: Clock) -> None:
    async with house(tmp_path, clock, Config(journal=Limits(max_jobs=5))) as h:
        draining = Failed.of(Draining("the daemon is going down", 5))
        h.backend.scripts["hi"] = [[draining]]
        await h.jobs.start()
        await h.jobs.submit(draft("a", "hi"))
        results = await h.results(1)

    assert results["a"]["text"] == "HI"

from __future__ import annotations

import logging
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

import pytest
from msgspec.structs import replace

from edge_agent.config import Journal as Limits
from edge_agent.errors import Busy, Conflict
from edge_agent.messages import Priority
from edge_agent.serving import journal as journal_module
from edge_agent.serving.journal import Journal
from edge_agent.serving.journal_file import JournalFile
from tests.serving.drafts import Clock, draft, leftovers, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

MIB = 1 << 20
DISK_FULL = "database or disk is full"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path, clock: Clock) -> AsyncIterator[Journal]:
    journal = Journal(tmp_path, Limits(max_jobs=20), clock)
    await journal.open()
    yield journal
    await journal.close()


async def reopened(tmp_path: Path, clock: Clock) -> Journal:
    """Return the journal as the next daemon finds it; the first one was not closed."""
    journal = Journal(tmp_path, Limits(), clock)
    await journal.open()
    return journal


async def finished(journal: Journal, id_: str, body: bytes) -> int:
    """Bring a job through its whole life but the last step."""
    taken = await journal.accept(draft(id_))
    await journal.start(taken.ticket)
    await journal.finish(taken.ticket.seq, body)
    return taken.ticket.seq


async def test_an_accepted_job_is_there_when_the_file_is_opened_again(
    journal: Journal, tmp_path: Path, clock: Clock
) -> None:
    taken = await journal.accept(draft("a"))
    await journal.close()

    again = await reopened(tmp_path, clock)
    tickets = await again.replay(())
    await again.close()

    assert taken.is_new
    assert [(ticket.id, ticket.crashes, ticket.attempt) for ticket in tickets] == [("a", 0, 1)]


async def test_a_job_keeps_every_field_of_its_request(journal: Journal) -> None:
    sent = draft(request=request("a", "Grüße 👋", stream=True))

    job = await journal.load((await journal.accept(sent)).ticket.seq)

    assert job
    assert (job.request, job.address) == (sent.request, sent.address)


async def test_a_repeat_finds_the_job_and_not_a_second_one(journal: Journal) -> None:
    first = await journal.accept(draft("a"))
    second = await journal.accept(draft("a"))

    assert second.ticket.seq == first.ticket.seq
    assert not second.is_new
    assert len(await journal.replay(())) == 1


async def test_a_repeat_of_an_answered_job_sends_its_result_again(journal: Journal) -> None:
    seq = await finished(journal, "a", b"result")
    await journal.published(seq)

    taken = await journal.accept(draft("a", address=b"elsewhere"))
    [result] = await journal.outbox(5, ())

    assert taken.is_done
    assert (result.body, result.address) == (b"result", b"elsewhere")


async def test_the_same_id_with_another_payload_is_a_conflict(journal: Journal) -> None:
    await journal.accept(draft("a", "one"))

    with pytest.raises(Conflict, match="'a'"):
        await journal.accept(draft("a", "two"))


async def test_a_redelivery_without_a_key_is_known_by_packet_and_payload(journal: Journal) -> None:
    first = await journal.accept(draft("x1", keyed=False, packet_id=7))

    again = draft("x2", keyed=False, packet_id=7, is_redelivery=True)
    other = draft("x3", "other", keyed=False, packet_id=7, is_redelivery=True)
    fresh = draft("x4", keyed=False, packet_id=7)

    assert (await journal.accept(again)).ticket.id == first.ticket.id
    assert (await journal.accept(other)).is_new
    assert (await journal.accept(fresh)).is_new


async def test_packet_ids_of_an_ended_session_are_forgotten(journal: Journal) -> None:
    await journal.accept(draft("x1", keyed=False, packet_id=7))

    await journal.forget_packet_ids("mqtt")

    again = draft("x2", keyed=False, packet_id=7, is_redelivery=True)
    assert (await journal.accept(again)).is_new


async def test_a_job_that_ran_when_the_daemon_ended_is_blamed_once(
    journal: Journal, tmp_path: Path, clock: Clock
) -> None:
    ran = await journal.accept(draft("ran"))
    await journal.accept(draft("waited"))
    await journal.start(ran.ticket)
    await journal.close()

    again = await reopened(tmp_path, clock)
    first, second = await again.replay(()), await again.replay(())
    await again.close()

    assert [(t.id, t.crashes, t.attempt) for t in first] == [("ran", 1, 2), ("waited", 0, 1)]
    assert first == second


async def test_jobs_of_our_own_that_run_are_not_blamed(journal: Journal) -> None:
    taken = await journal.accept(draft("a"))
    await journal.start(taken.ticket)

    assert await journal.replay((taken.ticket.seq,)) == []


async def test_the_first_result_stays(journal: Journal) -> None:
    taken = await journal.accept(draft("a"))

    assert await journal.finish(taken.ticket.seq, b"first")
    assert not await journal.finish(taken.ticket.seq, b"second")
    assert [result.body for result in await journal.outbox(5, ())] == [b"first"]


async def test_an_answered_job_does_not_start_again(journal: Journal) -> None:
    taken = await journal.accept(draft("a"))
    await journal.finish(taken.ticket.seq, b"first")

    assert await journal.load(taken.ticket.seq) is None
    await journal.start(taken.ticket)
    assert await journal.replay(()) == []


async def test_the_outbox_gives_results_in_order_until_confirmed(journal: Journal) -> None:
    seqs = [await finished(journal, name, name.encode()) for name in "abcd"]
    await journal.published(seqs[1])

    bodies = [result.body for result in await journal.outbox(2, {seqs[0]})]

    assert bodies == [b"c", b"d"]


async def test_open_jobs_are_bounded(journal: Journal) -> None:
    for number in range(20):
        await journal.accept(draft(f"n{number}"))

    with pytest.raises(Busy, match="20 requests"):
        await journal.accept(draft("one-more"))
    assert journal.durability == "full"


async def test_bytes_are_bounded_and_old_confirmed_results_make_room(
    tmp_path: Path, clock: Clock
) -> None:
    journal = Journal(tmp_path, Limits(max_bytes=MIB), clock)
    await journal.open()
    old = await finished(journal, "old", b"x" * (MIB // 2))
    await journal.published(old)
    await finished(journal, "unread", b"x" * (MIB // 4))

    await journal.accept(draft("big", "y" * (MIB // 2)))
    with pytest.raises(Busy, match="full"):
        await journal.accept(draft("bigger", "y" * (MIB // 2)))

    assert [result.id for result in await journal.outbox(9, ())] == ["unread"]
    await journal.close()


async def test_bytes_are_counted_anew_when_the_file_is_opened(tmp_path: Path, clock: Clock) -> None:
    journal = Journal(tmp_path, Limits(max_bytes=MIB), clock)
    await journal.open()
    await finished(journal, "unread", b"x" * (MIB // 2))
    await journal.close()

    again = Journal(tmp_path, Limits(max_bytes=MIB), clock)
    await again.open()
    with pytest.raises(Busy, match="full"):
        await again.accept(draft("big", "y" * (MIB // 2)))
    await again.close()


@pytest.mark.parametrize("pass_time", [lambda c: c.forward(2), lambda c: c.reboot(down_s=2)])
async def test_results_are_dropped_when_their_retention_ends(
    tmp_path: Path, clock: Clock, pass_time: Callable[[Clock], None]
) -> None:
    journal = Journal(tmp_path, Limits(retention_s=100), clock)
    await journal.open()
    await finished(journal, "a", b"result")
    await journal.accept(draft("open"))
    clock.forward(99)
    assert await journal.sweep() == 0

    pass_time(clock)

    assert await journal.sweep() == 1
    assert [ticket.id for ticket in await journal.replay(())] == ["open"]
    await journal.close()


async def test_a_result_outlives_a_wall_clock_that_jumps_a_year(
    journal: Journal, clock: Clock
) -> None:
    await finished(journal, "a", b"result")

    clock.set_wall(365 * 86400.0)

    assert await journal.sweep() == 0


async def test_a_job_of_an_earlier_boot_is_a_suspect(
    journal: Journal, tmp_path: Path, clock: Clock
) -> None:
    await journal.accept(draft("a"))
    await journal.close()
    clock.reboot(down_s=5)

    again = await reopened(tmp_path, clock)
    [ticket] = await again.replay(())
    await again.close()

    assert ticket.is_suspect


async def test_jobs_are_found_by_id_or_correlation_while_open(journal: Journal) -> None:
    seq = (await journal.accept(draft("a", correlation=b"c"))).ticket.seq

    assert await journal.find("mqtt", job_id="a", correlation=None) == [seq]
    assert await journal.find("mqtt", job_id=None, correlation=b"c") == [seq]
    await journal.finish(seq, b"result")
    assert await journal.find("mqtt", job_id="a", correlation=None) == []


@pytest.mark.parametrize("damage", [b"not a database, not at all" * 99, None])
async def test_a_damaged_file_is_set_aside_and_said_aloud(
    tmp_path: Path, clock: Clock, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, Limits(), clock)
    await journal.open()
    for number in range(50):
        await journal.accept(draft(f"n{number}", "y" * 4000))
    await journal.close()
    path = tmp_path / "journal.db"
    whole = path.read_bytes()
    # A head that is no head, or every page but the first overwritten.
    path.write_bytes(damage or whole[:4096] + b"\xa5" * (len(whole) - 4096))

    again = await reopened(tmp_path, clock)

    assert await again.replay(()) == []
    assert (await again.accept(draft("new"))).is_new
    assert list(leftovers(tmp_path)) == ["journal.db.damaged"]
    assert "cannot be used" in caplog.text
    await again.close()


async def test_a_ticket_says_how_urgent_and_whose_it_is_also_when_it_is_read_again(
    journal: Journal, tmp_path: Path, clock: Clock
) -> None:
    urgent = replace(request("a"), priority=Priority.HIGH, client="desk")
    taken = await journal.accept(draft("a", request=urgent))
    await journal.close()
    again = await reopened(tmp_path, clock)
    [ticket] = await again.replay(())
    await again.close()

    for one in (taken.ticket, ticket):
        assert (one.priority, one.client) == (Priority.HIGH, "desk")


async def test_a_file_of_an_earlier_release_is_read_on(tmp_path: Path, clock: Clock) -> None:
    journal = Journal(tmp_path, Limits(), clock)
    await journal.open()
    await journal.accept(draft("a"))
    await journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("ALTER TABLE job DROP COLUMN priority")
        db.execute("ALTER TABLE job DROP COLUMN client")
        db.execute("PRAGMA user_version = 1")
    db.close()

    again = await reopened(tmp_path, clock)
    tickets = await again.replay(())
    await again.accept(draft("b", request=replace(request("b"), client="desk")))
    await again.close()

    assert [(t.id, t.priority, t.client) for t in tickets] == [("a", Priority.NORMAL, "")]
    assert list(leftovers(tmp_path)) == []


async def test_a_file_of_a_later_release_is_set_aside_and_kept(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path, Limits(), clock)
    await journal.open()
    await journal.close()
    with sqlite3.connect(tmp_path / "journal.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()

    again = await reopened(tmp_path, clock)
    await again.close()

    assert list(leftovers(tmp_path)) == ["journal.db.v99"]
    assert "schema 99" in caplog.text


class _Disk(NamedTuple):
    f_bavail: int
    f_frsize: int = 1


async def test_a_disk_nearly_full_is_busy_and_recovers_by_itself(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    taken = await journal.accept(draft("a"))
    monkeypatch.setattr(os, "statvfs", lambda _: _Disk(f_bavail=1000))

    for id_ in "bc":
        with pytest.raises(Busy):
            await journal.accept(draft(id_))
    assert journal.durability == "none"
    assert "1000 bytes of disk" in (journal.problem or "")
    assert await journal.finish(taken.ticket.seq, b"result"), "what was accepted is still answered"
    assert [r.levelno for r in caplog.records] == [logging.ERROR], "said once"

    monkeypatch.setattr(os, "statvfs", lambda _: _Disk(f_bavail=1 << 40))
    await journal.probe()

    assert (journal.durability, journal.problem) == ("full", None)
    assert (await journal.accept(draft("b"))).is_new


async def test_a_write_that_fails_is_never_accepted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError(DISK_FULL)

    with monkeypatch.context() as broken:
        broken.setattr(JournalFile, "accept", fail)
        with pytest.raises(Busy):
            await journal.accept(draft("a"))
        assert journal.durability == "none"

    await journal.probe()
    assert journal.durability == "full"
    assert journal.openings == 2, "the file is read anew after a failure"
    assert (await journal.accept(draft("a"))).is_new


async def test_without_a_directory_to_write_there_is_no_false_accepted(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "home", Limits(), clock)

    await journal.open()
    with pytest.raises(Busy):
        await journal.accept(draft("a"))

    assert journal.durability == "none"
    await journal.close()


@pytest.fixture
def _in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the kernel say that the directory lies on a tmpfs."""
    number = tmp_path.stat().st_dev
    mounts = tmp_path / "mountinfo"
    device = f"{os.major(number)}:{os.minor(number)}"
    mounts.write_text(f"36 35 {device} / /x rw,noatime shared:1 - tmpfs tmpfs rw\n")
    monkeypatch.setattr(journal_module, "_MOUNTS", mounts)


@pytest.mark.usefixtures("_in_memory")
async def test_a_journal_in_memory_works_and_says_that_it_promises_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    journal = Journal(tmp_path / "home", Limits(), clock)

    await journal.open()

    assert (journal.durability, journal.problem) == ("none", None)
    assert (await journal.accept(draft("a"))).is_new
    await journal.close()

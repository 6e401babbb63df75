"""The journal's open file: every statement on it, and what each commit promises.

Synchronous, for one thread. A request costs two syncs: accepting it and storing its result commit
with `synchronous=FULL`. What merely helps after a crash of the process ("started", "published")
commits with NORMAL, which in WAL mode writes without a sync: the page cache outlives a `kill -9`,
and what a power cut takes only repeats work or an identical message. The next FULL commit syncs
it along. One connection only: SQLite's WAL before 3.51.3 can lose commits with two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from edge_agent.errors import Busy, Conflict
from edge_agent.messages import Priority, Request
from edge_agent.serving.clock import Moment
from edge_agent.serving.job import Draft, Job, JobState, Taken, Ticket
from edge_agent.serving.journal_results import Results
from edge_agent.serving.journal_schema import SCHEMA_VERSION, connect, transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from edge_agent.config import Journal as JournalConfig

# By then a place in a full queue is free, or a full disk may have been tidied.
RETRY_AFTER_S = 5.0
# What a row costs beside payload and result: columns, indexes, page slack.
_ROW_BYTES = 512
# Old results are dropped in groups, so that a full journal does not pay for it on every request.
_EVICT_ROWS = 64

_DUE = "boot_id, due_boot_s, due_wall_s"
_TICKET = f"seq, id, attempt, crashes, priority, client, {_DUE}"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


class JournalFile:
    """Jobs on disk; every public method is one transaction.

    Raises (any method): sqlite3.Error when the disk does not do its part.
    """

    def __init__(self, path: Path, limits: JournalConfig, now: Callable[[], Moment]) -> None:
        self._limits = limits
        self._now = now
        self._db = connect(path)
        self.results = Results(self._db)
        try:
            # Reads every row's head: a damaged file is found now, not in the middle of a job.
            self._open_jobs, self._kept_bytes = self._db.execute(
                "SELECT count(*) FILTER (WHERE state != 'done'), coalesce(sum(bytes), 0) FROM job"
            ).fetchone()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Fold the WAL back and close."""
        self._db.close()

    def accept(self, draft: Draft) -> Taken:
        """Put `draft` on disk, or find the job it repeats.

        Raises:
            Conflict: the same key or id came before with another payload.
            Busy: the journal is full.
        """
        if (earlier := self._earlier(draft)) is not None:
            return earlier
        request = _encode(draft.request)
        size_bytes = len(request) + len(draft.address) + _ROW_BYTES
        due = self._now().plus(draft.deadline_s)
        with transaction(self._db, durable=True):
            freed_bytes = self._make_room(size_bytes)
            [(seq,)] = self._db.execute(
                "INSERT INTO job (id, source, key, payload_sha, correlation, packet_id, request,"
                " address, priority, client, state, bytes, boot_id, due_boot_s, due_wall_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?) RETURNING seq",
                (
                    draft.request.id,
                    draft.source,
                    draft.key,
                    draft.payload_sha,
                    draft.correlation,
                    draft.packet_id,
                    request,
                    draft.address,
                    draft.request.priority.value,
                    draft.request.client,
                    size_bytes,
                    *_columns(due),
                ),
            ).fetchall()
        self._open_jobs += 1
        self._kept_bytes += size_bytes - freed_bytes
        ticket = Ticket(
            seq=seq,
            id=draft.request.id,
            attempt=1,
            crashes=0,
            deadline=due,
            priority=draft.request.priority,
            client=draft.request.client,
        )
        return Taken(ticket=ticket, address=draft.address, is_new=True, is_done=False)

    def load(self, seq: int) -> Job | None:
        """Return a queued job with its request; None if it is not queued (any more)."""
        rows = self._db.execute(
            "SELECT request, address, attempt, crashes FROM job WHERE seq = ? AND state = 'queued'",
            (seq,),
        ).fetchall()
        for request, address, attempt, crashes in rows:
            return Job(
                seq=seq, request=_decode(request), address=address, attempt=attempt, crashes=crashes
            )
        return None

    def start(self, seq: int, *, durable: bool) -> None:
        """Mark a queued job as running: it is to blame if this process does not survive it.

        `durable` syncs the mark: for a job that may be what took the machine down.
        """
        with transaction(self._db, durable=durable):
            self._db.execute(
                "UPDATE job SET state = 'running' WHERE seq = ? AND state = 'queued'", (seq,)
            )

    def put_back(self, seq: int, *, attempt: int, crashes: int) -> None:
        """Return a job, running or about to, to its place in the queue."""
        # A crash is worth a sync: it is rare, and losing it would run a poisonous job once more.
        with transaction(self._db, durable=crashes > 0):
            self._db.execute(
                "UPDATE job SET state = 'queued', attempt = ?, crashes = ?"
                " WHERE seq = ? AND state != 'done'",
                (attempt, crashes, seq),
            )

    def finish(self, seq: int, body: bytes) -> bool:
        """Store the terminal result of an open job; False if it has one: the first one stays."""
        keep = self._now().plus(self._limits.retention_s)
        size_bytes = len(body) + _ROW_BYTES
        with transaction(self._db, durable=True):
            rows = self._db.execute(
                "SELECT bytes FROM job WHERE seq = ? AND state != 'done'", (seq,)
            ).fetchall()
            if not rows:
                return False
            self._db.execute(
                "UPDATE job SET state = 'done', result = ?, request = NULL, bytes = ?,"
                " boot_id = ?, due_boot_s = ?, due_wall_s = ? WHERE seq = ?",
                (body, size_bytes, *_columns(keep), seq),
            )
        self._open_jobs -= 1
        self._kept_bytes += size_bytes - rows[0][0]
        return True

    def replay(self, mine: Collection[int]) -> list[Ticket]:
        """Return every open job, oldest first, after blaming those that ran when a daemon ended.

        `mine` are running right now and keep running; they are not returned.
        """
        with transaction(self._db, durable=True):
            running = self._db.execute("SELECT seq FROM job WHERE state = 'running'").fetchall()
            self._db.executemany(
                "UPDATE job SET state = 'queued', attempt = attempt + 1, crashes = crashes + 1"
                " WHERE seq = ?",
                [row for row in running if row[0] not in mine],
            )
            rows = self._db.execute(
                f"SELECT {_TICKET} FROM job WHERE state = 'queued' ORDER BY seq"  # noqa: S608  # constant
            ).fetchall()
        boot_id = self._now().boot_id
        return [_ticket(row, boot_id) for row in rows]

    def find(self, source: str, *, job_id: str | None, correlation: bytes | None) -> list[int]:
        """Return the open jobs (seq) that go by this id, or by this correlation if id is None."""
        column, value = ("id", job_id) if job_id is not None else ("correlation", correlation)
        rows = self._db.execute(
            f"SELECT seq FROM job WHERE source = ? AND {column} = ? AND state != 'done'",  # noqa: S608  # one of two constants
            (source, value),
        ).fetchall()
        return [seq for (seq,) in rows]

    def forget_packet_ids(self, source: str) -> None:
        """Forget the wire's packet ids: its session is new and counts from one again."""
        with transaction(self._db, durable=False):
            self._db.execute(
                "UPDATE job SET packet_id = NULL WHERE source = ? AND packet_id IS NOT NULL",
                (source,),
            )

    def sweep(self) -> int:
        """Drop results whose retention has ended; return how many."""
        now = self._now()
        with transaction(self._db, durable=False):
            rows = self._db.execute(
                "DELETE FROM job WHERE state = 'done'"
                " AND CASE boot_id WHEN ? THEN due_boot_s < ? ELSE due_wall_s < ? END"
                " RETURNING bytes",
                _columns(now),
            ).fetchall()
        self._kept_bytes -= sum(size_bytes for (size_bytes,) in rows)
        return len(rows)

    def touch(self) -> None:
        """Write and sync something harmless; raises if the disk does not take it."""
        with transaction(self._db, durable=True):
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _earlier(self, draft: Draft) -> Taken | None:
        """Return the job that `draft` repeats, after pointing its answer to where it asks now."""
        rows = self._repeated(draft)
        if not rows:
            return None
        *columns, source, state, payload_sha, address, is_published = rows[0]
        if payload_sha != draft.payload_sha or source != draft.source:
            raise Conflict(draft.request.id)
        is_done = state == JobState.DONE
        ticket = _ticket(columns, self._now().boot_id)
        # Only one who knows the id can have another address; else it differs by a fresh id alone.
        new_address = draft.address if ticket.id == draft.request.id else address
        if new_address != address or (is_done and is_published):
            with transaction(self._db, durable=new_address != address):
                self._db.execute(
                    "UPDATE job SET address = ?, is_published = 0 WHERE seq = ?",
                    (new_address, ticket.seq),
                )
        return Taken(ticket=ticket, address=new_address, is_new=False, is_done=is_done)

    def _repeated(self, draft: Draft) -> list[Any]:
        values: tuple[object, ...]
        if draft.key is not None:
            where = "(source = ? AND key = ?) OR id = ?"
            values = (draft.source, draft.key, draft.request.id)
        elif draft.is_redelivery and draft.packet_id is not None:
            where = "source = ? AND packet_id = ? AND payload_sha = ? AND key IS NULL"
            values = (draft.source, draft.packet_id, draft.payload_sha)
        else:
            return []
        return self._db.execute(
            f"SELECT {_TICKET}, source, state, payload_sha, address, is_published"  # noqa: S608  # constants
            f" FROM job WHERE {where} ORDER BY seq DESC LIMIT 1",
            values,
        ).fetchall()

    def _make_room(self, size_bytes: int) -> int:
        """Drop the oldest confirmed results until `size_bytes` fit; return the bytes they held."""
        if self._open_jobs >= self._limits.max_jobs:
            reason = f"{self._open_jobs} requests are waiting, the limit"
            raise Busy(reason, RETRY_AFTER_S)
        freed_bytes = 0
        while self._kept_bytes - freed_bytes + size_bytes > self._limits.max_bytes:
            rows = self._db.execute(
                "DELETE FROM job WHERE seq IN (SELECT seq FROM job"
                " WHERE state = 'done' AND is_published = 1 ORDER BY seq LIMIT ?) RETURNING bytes",
                (_EVICT_ROWS,),
            ).fetchall()
            if not rows:
                reason = "the journal is full"
                raise Busy(reason, RETRY_AFTER_S)
            freed_bytes += sum(row_bytes for (row_bytes,) in rows)
        return freed_bytes


def _columns(moment: Moment) -> tuple[str, float, float]:
    return moment.boot_id, moment.boot_s, moment.wall_s


def _ticket(row: Sequence[Any], boot_id: str) -> Ticket:
    """Return the ticket in a row of `_TICKET` columns; `boot_id` names this run of the machine."""
    seq, id_, attempt, crashes, priority, client, due_boot_id, due_boot_s, due_wall_s = row
    deadline = Moment(boot_id=due_boot_id, boot_s=due_boot_s, wall_s=due_wall_s)
    return Ticket(
        seq=seq,
        id=id_,
        attempt=attempt,
        crashes=crashes,
        deadline=deadline,
        priority=Priority(priority),
        client=client,
        is_suspect=due_boot_id != boot_id,
    )

"""The durable queue: what was accepted is on disk, whatever happens to the process or the machine.

The asynchronous face of the journal's file. All work happens in one thread of its own, in order,
so a slow disk never stalls the event loop. A disk that fails is an answer (`Busy`), a state
(`problem`, `durability`) and something to try again, never a false "accepted".
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edge_agent.errors import Busy
from edge_agent.serving import clock
from edge_agent.serving.journal_file import RETRY_AFTER_S, JournalFile
from edge_agent.serving.journal_schema import NewerSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from edge_agent.config import Journal as JournalConfig
    from edge_agent.serving.job import Draft, Job, Result, Taken, Ticket

logger = logging.getLogger(__name__)

FILE_NAME = "journal.db"
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_VOLATILE_FILE_SYSTEMS = {"tmpfs", "ramfs"}
_MOUNTS = Path("/proc/self/mountinfo")

T = TypeVar("T")


class Journal:
    """Accepts jobs, remembers how far they got, keeps their results for a while.

    Every method may raise `Busy`: the disk does not do its part now. Nothing was promised then.
    """

    def __init__(
        self,
        directory: Path,
        limits: JournalConfig,
        now: Callable[[], clock.Moment] = clock.now,
    ) -> None:
        self.now = now
        self.openings = 0
        """Rises each time the file was opened: what is known of its jobs must be read again."""
        self._directory = directory
        self._limits = limits
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._file: JournalFile | None = None
        self._problem: str | None = None
        self._is_volatile = False
        self._is_closed = False

    @property
    def problem(self) -> str | None:
        """Why nothing can be accepted now, or None."""
        return self._problem

    @property
    def durability(self) -> str:
        """`full`: what is accepted survives power loss. `none`: the disk fails, or is memory."""
        return "none" if self._problem or self._is_volatile else "full"

    async def open(self) -> None:
        """Open the file; a disk that does not allow it is a `problem`, not an error."""
        await self.probe()

    async def close(self) -> None:
        """Finish what was begun and close the file."""
        if self._is_closed:
            return
        self._is_closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close_file)
        self._thread.shutdown(wait=False)  # idle: its last work is done

    async def probe(self) -> None:
        """Find out whether a problem has passed, or whether the disk is about to be one."""
        with contextlib.suppress(Busy):  # `problem` says it
            await self._call(_probe if self._problem else _nothing, needs_space=True)

    async def accept(self, draft: Draft) -> Taken:
        """Return once `draft` is on disk, or is found to repeat a job.

        Raises:
            Conflict: the same key came before with another payload.
            Busy: full, or the disk fails.
        """
        return await self._call(lambda file: file.accept(draft), needs_space=True)

    async def load(self, seq: int) -> Job | None:
        """Return a queued job with its request; None if it is not queued any more."""
        return await self._call(lambda file: file.load(seq))

    async def start(self, ticket: Ticket) -> None:
        """Mark a queued job as running: it is to blame if this process does not survive it."""
        durable = ticket.is_suspect or ticket.crashes > 0
        await self._call(lambda file: file.start(ticket.seq, durable=durable))

    async def put_back(self, seq: int, *, attempt: int, crashes: int) -> None:
        """Return a running job to its place in the queue."""
        await self._call(lambda file: file.put_back(seq, attempt=attempt, crashes=crashes))

    async def finish(self, seq: int, body: bytes) -> bool:
        """Store the terminal result of a job; False if it has one already."""
        return await self._call(lambda file: file.finish(seq, body))

    async def replay(self, mine: Collection[int]) -> list[Ticket]:
        """Return every open job but `mine`; those that ran when a daemon ended are blamed once."""
        return await self._call(lambda file: file.replay(mine))

    async def outbox(self, most: int, skip: Collection[int]) -> list[Result]:
        """Return up to `most` results that are not confirmed and not in `skip`, oldest first."""
        return await self._call(lambda file: file.results.outbox(most, skip))

    async def published(self, seq: int) -> None:
        """Note that a result was confirmed."""
        await self._call(lambda file: file.results.published(seq))

    async def replace(self, seq: int, body: bytes) -> None:
        """Store another result in place of one that can never be delivered."""
        await self._call(lambda file: file.results.replace(seq, body))

    async def find(
        self, source: str, *, job_id: str | None, correlation: bytes | None
    ) -> list[int]:
        """Return the open jobs that go by this id, or by this correlation if the id is None."""
        return await self._call(
            lambda file: file.find(source, job_id=job_id, correlation=correlation)
        )

    async def forget_packet_ids(self, source: str) -> None:
        """Forget the packet ids of a wire whose session is new."""
        await self._call(lambda file: file.forget_packet_ids(source))

    async def sweep(self) -> int:
        """Drop results whose retention has ended; return how many."""
        return await self._call(lambda file: file.sweep())

    async def _call(self, work: Callable[[JournalFile], T], *, needs_space: bool = False) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._do, work, needs_space)

    # Below runs in the journal's thread only.

    def _do(self, work: Callable[[JournalFile], T], needs_space: bool) -> T:  # noqa: FBT001  # an executor passes by position
        try:
            file = self._file or self._open_file()
            if needs_space:
                self._check_space()
            result = work(file)
        except (sqlite3.Error, OSError) as exc:
            # After a failed sync the connection's view and the disk may differ: read it anew.
            self._close_file()
            self._fail(f"{type(exc).__name__}: {exc}")
            raise _busy() from exc
        if self._problem and needs_space:
            logger.warning("journal is usable again path=%s", self._directory)
            self._problem = None
        return result

    def _fail(self, problem: str) -> None:
        if self._problem is None:
            logger.error("journal refuses work path=%s problem=%s", self._directory, problem)
        self._problem = problem

    def _check_space(self) -> None:
        disk = os.statvfs(self._directory)
        free_bytes = disk.f_bavail * disk.f_frsize
        if free_bytes < self._limits.min_free_bytes:
            least = self._limits.min_free_bytes
            self._fail(f"{free_bytes} bytes of disk are free, {least} must be")
            raise _busy()

    def _open_file(self) -> JournalFile:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / FILE_NAME
        try:
            file = JournalFile(path, self._limits, self.now)
        except NewerSchema as exc:
            _set_aside(path, f"v{exc.version}", str(exc))
            file = JournalFile(path, self._limits, self.now)
        except sqlite3.DatabaseError as exc:
            if getattr(exc, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                raise
            _set_aside(path, "damaged", str(exc))
            file = JournalFile(path, self._limits, self.now)
        self._is_volatile = _file_system(self._directory) in _VOLATILE_FILE_SYSTEMS
        self.openings += 1
        self._file = file
        return file

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except sqlite3.Error:
                logger.warning("journal did not close cleanly", exc_info=True)


def _busy() -> Busy:
    reason = "the journal cannot be written"
    return Busy(reason, RETRY_AFTER_S)


def _nothing(_: JournalFile) -> None:
    """Do no more than open the file and look at the free space."""


def _probe(file: JournalFile) -> None:
    """Write and sync: reading may work on a disk that takes nothing more."""
    file.touch()


def _set_aside(path: Path, why: str, problem: str) -> None:
    """Rename an unusable file and its WAL, replacing one set aside before: disk is bounded."""
    aside = path.with_name(f"{path.name}.{why}")
    logger.critical(
        "journal cannot be used, its jobs are not run; starting empty path=%s aside=%s problem=%s",
        path,
        aside,
        problem,
    )
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists():
        wal.replace(aside.with_name(f"{aside.name}-wal"))
    path.replace(aside)


def _file_system(directory: Path) -> str:
    """Return the type of the file system that holds `directory`, or "" if it cannot be told."""
    number = directory.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    # mountinfo: id parent major:minor root mount-point options [tags] - type source options
    for mount in mounts:
        before, _, after = mount.partition(" - ")
        if before.split()[2] == device:
            return after.split()[0]
    return ""

"""Downloads files whose size and hash are known, resuming what an earlier run began.

A file grows as `NAME.part` and gets its name when it is whole, checked and on the disk. No ETag is
kept beside it: the hash at the end decides, whatever the server says in between.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.modelstore.disk import DISK_FULL
from edge_agent.modelstore.web import TryAgain, open_body

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from edge_agent.modelstore.retry import Patience

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A file on a server: where, how large, and by which hash it is known."""

    name: str
    """Plain file name."""
    url: str
    bytes: int
    sha256: str | None = None
    git_blob: str | None = None
    """What git calls the file: the sha1 of a header and its bytes. Only asked without `sha256`."""


def missing_bytes(files: Sequence[Remote], directory: Path) -> int:
    """Return how much of `files` is not in `directory` yet."""
    return sum(remote.bytes - _present_bytes(remote, directory) for remote in files)


def download(
    files: Sequence[Remote],
    directory: Path,
    *,
    report: Callable[[int], None],
    say: Callable[[str], None],
    patience: Patience,
) -> None:
    """Bring all `files` into `directory`; `report` gets the bytes of all that are there.

    Raises:
        ModelError: a server fails for good, or a file twice is not what it should be.
        OSError: disk full or the like.
    """
    before_bytes = 0
    for remote in files:
        _Task(
            remote=remote,
            path=directory / remote.name,
            report=_after(before_bytes, report),
            say=say,
            patience=patience,
        ).run()
        before_bytes += remote.bytes
        report(before_bytes)


class _Part:
    """A file that grows, and the hash of what it holds."""

    def __init__(self, remote: Remote, file: BinaryIO) -> None:
        """Begin with what `file` holds already, unless that is too much."""
        self._remote = remote
        self._file = file
        self.restart(forget=False)
        while data := file.read(_READ_BYTES):
            self._note(data)
        if self.num_bytes > remote.bytes:
            self.restart(forget=True)

    def restart(self, *, forget: bool) -> None:
        """Go back to the first byte, for reading or, if all is to be forgotten, for writing."""
        self._file.seek(0)
        if forget:
            self._file.truncate()
        self._digest = _hasher(self._remote)
        self.num_bytes = 0

    def append(self, data: bytes) -> None:
        """Write `data`, or what of it still belongs to the file."""
        data = data[: self._remote.bytes - self.num_bytes]
        self._file.write(data)
        self._note(data)

    def finish(self) -> bool:
        """Bring the file to the disk; tell whether it is what it should be."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest() == (self._remote.sha256 or self._remote.git_blob)

    def _note(self, data: bytes) -> None:
        self._digest.update(data)
        self.num_bytes += len(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    remote: Remote
    path: Path
    report: Callable[[int], None]
    say: Callable[[str], None]
    patience: Patience

    def run(self) -> None:
        if self.path.exists():  # it has its name since it was checked
            return
        part = _part(self.path)
        if not self._is_right(part):
            self.say(f"{self.remote.name} is not what it should be; fetching it again")
            part.unlink()
            if not self._is_right(part):
                part.unlink()
                expected = self.remote.sha256 or self.remote.git_blob
                msg = f"{self.remote.url} is not the file with hash {expected}; fetched twice"
                raise ModelError(msg)
        part.rename(self.path)

    def _is_right(self, path: Path) -> bool:
        """Complete the file at `path` and tell whether it is the one we want."""
        path.touch()
        try:
            with path.open("r+b") as file:
                part = _Part(self.remote, file)
                self._complete(part)
                return part.finish()
        except OSError as exc:
            if exc.errno in DISK_FULL:
                path.unlink()  # a full disk needs the room
            raise

    def _complete(self, part: _Part) -> None:
        failures = 0
        while part.num_bytes < self.remote.bytes:
            had_bytes = part.num_bytes
            try:
                self._transfer(part)
            except TryAgain as exc:
                failures = 1 if part.num_bytes > had_bytes else failures + 1
                self._wait(exc, failures)

    def _transfer(self, part: _Part) -> None:
        """Append what one request brings."""
        start, total_bytes = part.num_bytes, self.remote.bytes
        with closing(open_body(self.remote.url, start=start, total_bytes=total_bytes)) as body:
            if body.start != start:  # this server sends whole files only
                part.restart(forget=True)
            for data in body:
                part.append(data)
                self.report(part.num_bytes)
                if part.num_bytes == total_bytes:
                    return
        msg = f"{self.remote.url}: cut off after {part.num_bytes} of {total_bytes} bytes"
        raise TryAgain(msg)

    def _wait(self, trouble: TryAgain, failures: int) -> None:
        """Pause before the next try, or give up."""
        pause_s = self.patience.pause_s(failures, trouble.asked_s)
        if pause_s is None:
            asked = f"; asked to wait {trouble.asked_s:.0f} s" if trouble.asked_s else ""
            msg = f"{trouble}{asked}"
            raise ModelError(msg) from trouble
        self.say(f"{trouble}; next try in {pause_s:.0f} s")
        time.sleep(pause_s)


def _hasher(remote: Remote) -> hashlib._Hash:
    if remote.sha256 is not None:
        return hashlib.sha256()
    header = f"blob {remote.bytes}\0".encode()
    return hashlib.sha1(
        header, usedforsecurity=False
    )  # git's own; the hub gives small files no other


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _present_bytes(remote: Remote, directory: Path) -> int:
    path = directory / remote.name
    if path.exists():
        return remote.bytes
    try:
        return min(_part(path).stat().st_size, remote.bytes)
    except FileNotFoundError:
        return 0


def _after(before_bytes: int, report: Callable[[int], None]) -> Callable[[int], None]:
    return lambda here_bytes: report(before_bytes + here_bytes)

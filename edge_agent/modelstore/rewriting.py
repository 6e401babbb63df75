"""Gives the weights of a package their prepared tail, so that a kill at any point does no harm.

A marker is there before the first byte is written and goes when `prepared.json` vouches for the
last. While the marker is alone, the tail is scrap: engines use the plain graphs, whose bytes no one
touches, and the next preparation cuts it off.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import ModelError
from edge_agent.modelstore.checksums import checksums
from edge_agent.modelstore.disk import DISK_FULL
from edge_agent.modelstore.prepared import (
    FILE_NAME,
    FORMAT,
    HUGE_PAGE_BYTES,
    UNFINISHED,
    WEIGHTS,
    Prepared,
    file_of,
    prepared_name,
)
from edge_agent.modelstore.store import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from edge_agent.modelstore.machine_key import MachineKey
    from edge_agent.modelstore.manifest import File, Manifest

# A page, so that each packed weight is mapped, and dropped from memory, by itself.
_PAGE_BYTES = 4096
_SCRATCH = "prepared.scratch"


@contextmanager
def rewriting(package: Path, manifest: Manifest) -> Iterator[Tail]:
    """Yield a new, empty tail for the weights of `package`; what is not finished vanishes.

    Raises:
        ModelError: a running engine uses the present tail, or the disk is full or read-only.
    """
    try:
        fd = os.open(package / WEIGHTS, os.O_RDWR | os.O_CLOEXEC)
        try:
            _lock(fd, package)
            with _clean(package, fd, manifest.files[WEIGHTS]) as tail:
                yield tail
        finally:
            os.close(fd)
    except OSError as exc:
        problem = "disk full" if exc.errno in DISK_FULL else "cannot write"
        msg = f"{problem} while preparing {package}: {exc.strerror or exc}"
        raise ModelError(msg) from exc


class Tail:
    """The tail of `weights.bin` while it is written. `scratch` is a directory on the same disk."""

    def __init__(self, package: Path, fd: int, raw: File, scratch: Path) -> None:
        self.scratch = scratch
        self.is_finished = False
        self._package = package
        self._fd = fd
        self._raw = raw
        self._end = raw.bytes

    def append(self, source: int, offset: int, num_bytes: int) -> int:
        """Append bytes [offset, offset + num_bytes) of open file `source`; return where they lie.

        Raises:
            OSError: disk full or the like.
            ModelError: `source` ends before that.
        """
        # What fills huge pages begins with one; the hole before it takes addresses and no disk.
        step = HUGE_PAGE_BYTES if num_bytes >= HUGE_PAGE_BYTES else _PAGE_BYTES
        place = -(-self._end // step) * step
        done = 0
        while done < num_bytes:
            # In one call each: the kernel then keeps a huge page of its cache as one, and maps it.
            data = os.pread(source, min(HUGE_PAGE_BYTES, num_bytes - done), offset + done)
            if not data:
                msg = f"{self.scratch}: packed weights end {num_bytes - done} bytes too early"
                raise ModelError(msg)
            done += os.pwrite(self._fd, data, place + done)
        self._end = place + num_bytes
        return place

    def finish(
        self, graphs: Mapping[str, bytes], key: MachineKey, report: Callable[[int], None]
    ) -> None:
        """Publish the tail with the prepared copies of `graphs`, by the graphs' own names.

        `report` gets the bytes of the tail that were read back so far.
        """
        os.fsync(self._fd)
        copies = {prepared_name(name): content for name, content in graphs.items()}
        for name, content in copies.items():
            _write(self._package / name, content)
        facts = Prepared(
            format=FORMAT,
            key=key,
            raw=self._raw,
            total_bytes=self._end,
            checksums=checksums(self._fd, self._raw.bytes, self._end, report),
            graphs={name: file_of(content) for name, content in copies.items()},
        )
        new = self._package / f"{FILE_NAME}.new"
        _write(new, msgspec.json.format(msgspec.json.encode(facts)))
        new.rename(self._package / FILE_NAME)
        sync_directory(self._package)
        self.is_finished = True
        (self._package / UNFINISHED).unlink()


def _lock(fd: int, package: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        msg = f"{package}: prepared weights are in use by another process, and not made anew now"
        raise ModelError(msg) from None


@contextmanager
def _clean(package: Path, fd: int, raw: File) -> Iterator[Tail]:
    """Begin without a tail, and end without one unless it is finished."""
    scratch = package / _SCRATCH
    (package / UNFINISHED).touch()
    sync_directory(package)
    _discard(package, fd, raw)
    scratch.mkdir()
    tail = Tail(package, fd, raw, scratch)
    try:
        yield tail
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if not tail.is_finished:  # a full disk needs the room
            _discard(package, fd, raw)
            (package / UNFINISHED).unlink(missing_ok=True)


def _discard(package: Path, fd: int, raw: File) -> None:
    (package / FILE_NAME).unlink(missing_ok=True)
    sync_directory(package)  # before the tail goes, nothing may vouch for it any more
    os.ftruncate(fd, raw.bytes)
    for path in package.glob("*.prepared.onnx"):
        path.unlink()
    shutil.rmtree(package / _SCRATCH, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())

"""Prepared weights: packed for this very machine, kept in the package, used as file pages.

onnxruntime lays weights out anew for the processor, on the heap, unless it finds the same bytes
behind the raw ones in the same file. So `weights.bin` grows a tail, each decoder graph gets a copy
that says where in the tail its weights are, and `prepared.json`, written last, vouches for both.
This module reads them; it loads neither numpy nor onnxruntime. `rewriting` makes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.modelstore.checksums import checksums
from edge_agent.modelstore.machine_key import MachineKey, difference, this_machine
from edge_agent.modelstore.manifest import File
from edge_agent.modelstore.progress import Stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edge_agent.modelstore.manifest import Manifest
    from edge_agent.modelstore.progress import Progress

logger = logging.getLogger(__name__)

FILE_NAME = "prepared.json"
WEIGHTS = "weights.bin"
# There while the tail of the weights is being written, or was given up: its bytes mean nothing.
UNFINISHED = "prepared.unfinished"
FORMAT: Literal[1] = 1
# Of x86 and of ARM64 kernels with 4 KiB pages. Read through them, weights take a fifth less time:
# a product waits for addresses where each 4 KiB have one of their own.
HUGE_PAGE_BYTES = 2 << 20


class Prepared(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `prepared.json` says."""

    format: Literal[1]
    key: MachineKey
    raw: File
    """The weights as the manifest has them; the tail begins behind them."""
    total_bytes: Annotated[int, Meta(ge=0)]
    """Size of `weights.bin` with its tail."""
    checksums: tuple[int, ...]
    """Of the tail, chunk by chunk; for `verify`."""
    graphs: dict[str, File]
    """The prepared copies of the decoder graphs, by file name."""


class Lock:
    """A lock on the weights of a package, until it is released or nobody has it any more."""

    def __init__(self, fd: int) -> None:
        self.release = weakref.finalize(self, os.close, fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A decoder graph to load. Whoever has loaded it keeps `lock` for as long."""

    path: Path
    lock: Lock | None
    """None: the plain graph, whose weights are packed on the heap."""


def prepared_name(graph: str) -> str:
    """Return the file name of the prepared copy of `graph`."""
    name = PurePath(graph)
    return f"{name.stem}.prepared{name.suffix}"


def find_graph(package: Path, manifest: Manifest, name: str) -> Graph:
    """Return the prepared copy of decoder graph `name` if it can be used here, else itself.

    The tail's content is not read: onnxruntime compares every byte of it with what it packs itself,
    at each load. If it refuses, there is `give_up`.

    Raises:
        ModelError: the weights cannot be opened.
    """
    lock = _share(package)
    reason = "being prepared by another process" if lock is None else fault(package, manifest)
    if lock is not None and reason is None:
        return Graph(path=package / prepared_name(name), lock=lock)
    if lock is not None:
        lock.release()
    logger.info("weights are packed on the heap package=%s reason=%s", package, reason)
    return Graph(path=package / name, lock=None)


def give_up(package: Path, name: str, graph: Graph, reason: str) -> Graph:
    """Return decoder graph `name` itself after onnxruntime refused `graph`, its prepared copy.

    What was prepared is not used again; the next preparation makes it anew.
    """
    logger.warning(
        "prepared weights are refused and given up package=%s reason=%s", package, reason
    )
    if graph.lock is not None:
        graph.lock.release()
    with suppress(OSError):  # where nothing can be written, the next load finds out again
        (package / FILE_NAME).rename(package / UNFINISHED)
    return Graph(path=package / name, lock=None)


def fault(package: Path, manifest: Manifest, key: MachineKey | None = None) -> str | None:
    """Return why the prepared weights of `package` cannot be used on the machine `key` (this one).

    None if they can: key, sizes and graphs are right. The tail's content is not read.
    """
    try:
        prepared = read_prepared(package)
        if prepared is None:
            return "not prepared"
        return (
            difference(prepared.key, key or this_machine())
            or _unlike(prepared, manifest)
            or _changed(package, prepared)
        )
    except ModelError as exc:
        return str(exc)


def read_prepared(package: Path) -> Prepared | None:
    """Read what was prepared in `package`; None if nothing was.

    Raises:
        ModelError: `prepared.json` cannot be read or says nonsense.
    """
    path = package / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Prepared)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as exc:
        msg = f"{path}: {exc}"
        raise ModelError(msg) from exc


def explains(package: Path, raw: File, actual_bytes: int) -> bool:
    """Tell whether a `weights.bin` of `actual_bytes` is what the package has, and perhaps a tail.

    A tail that is cut, damaged or unfinished is of no use and does no harm: `fault` finds it, the
    next preparation makes it anew, and the raw weights before it are still whole.
    """
    has_tail = (package / FILE_NAME).exists() or (package / UNFINISHED).exists()
    return actual_bytes == raw.bytes or (has_tail and actual_bytes > raw.bytes)


def check(package: Path, manifest: Manifest, progress: Progress) -> None:
    """Compare all that was prepared in `package`, for whatever machine, with its checksums.

    Raises:
        ModelError: something is damaged.
    """
    prepared = read_prepared(package)
    if prepared is None:
        return
    path = package / WEIGHTS
    begin, end = prepared.raw.bytes, prepared.total_bytes
    problem = _unlike(prepared, manifest) or _changed(package, prepared)
    if problem is None:
        show = progress.stage(Stage.VERIFY, end - begin)
        if _checksums(path, begin, end, show) != prepared.checksums:
            problem = f"bytes {begin} to {end}, the prepared weights, are damaged"
    if problem is not None:
        msg = f"{path}: {problem}"
        raise ModelError(msg)


def _checksums(path: Path, begin: int, end: int, report: Callable[[int], None]) -> tuple[int, ...]:
    try:
        with path.open("rb", buffering=0) as file:
            return checksums(file.fileno(), begin, end, report)
    except OSError as exc:
        msg = f"{path}: {exc.strerror}"
        raise ModelError(msg) from exc


def _share(package: Path) -> Lock | None:
    """Lock the weights against being prepared anew; None if that is going on."""
    try:
        fd = os.open(package / WEIGHTS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        msg = f"{package / WEIGHTS}: {exc.strerror}"
        raise ModelError(msg) from exc
    lock = Lock(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # held by whoever prepares, or a file system that knows no locks
        lock.release()
        return None
    return lock


def _unlike(prepared: Prepared, manifest: Manifest) -> str | None:
    if prepared.raw != manifest.files.get(WEIGHTS):
        return f"made from other weights than {WEIGHTS}"
    if set(prepared.graphs) != {prepared_name(graph) for graph in manifest.graphs.values()}:
        return "made for other graphs"
    return None


def _changed(package: Path, prepared: Prepared) -> str | None:
    """Return what is not as it was made; graphs are small, so they are read."""
    try:
        actual_bytes = (package / WEIGHTS).stat().st_size
        if actual_bytes != prepared.total_bytes:
            return f"{WEIGHTS} has {actual_bytes} bytes, not {prepared.total_bytes}"
        for name, expected in prepared.graphs.items():
            if file_of((package / name).read_bytes()) != expected:
                return f"{name} is damaged"
    except OSError as exc:
        return f"{exc.filename}: {exc.strerror}"
    return None


def file_of(content: bytes) -> File:
    """Return the size and the hash of `content`."""
    return File(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

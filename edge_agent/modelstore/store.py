"""Where model packages live on this machine: found, checked, published and removed by name.

`HOME/models/NAME` is a package and always whole: it appears and vanishes by one rename. What is
not whole yet, or no more, is in `HOME/staging`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore import prepared
from edge_agent.modelstore.card import NAME_PATTERN
from edge_agent.modelstore.manifest import File, Manifest, read_manifest
from edge_agent.modelstore.progress import Progress, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_READ_BYTES = 1 << 20


class ModelStore:
    """The packages below one `home` directory, which need not exist yet."""

    def __init__(self, home: Path) -> None:
        self._models = home / "models"
        self._staging = home / "staging"

    def names(self) -> tuple[str, ...]:
        """Return the names of all packages, in order."""
        if not self._models.is_dir():
            return ()
        paths = sorted(path for path in self._models.iterdir() if path.is_dir())
        return tuple(path.name for path in paths if _is_name(path.name))

    def package(self, name: str) -> Path:
        """Return the directory of package `name`, whose files have the sizes they should.

        Raises:
            ModelNotFound: there is none.
            ModelError: it is there, but its manifest or a file is not as it was published.
        """
        path = self._found(name)
        for _ in _files(path, read_manifest(path)):
            pass  # each is of its size, or it raises
        return path

    def verify(self, name: str, progress: Progress) -> None:
        """Read every file of package `name` and compare it with its hash.

        Raises:
            ModelNotFound, ModelError: as `package`, or a hash differs.
        """
        check_files(self.package(name), progress)

    def remove(self, name: str) -> None:
        """Remove package `name`; it is gone from sight before its first file is.

        The caller holds the lock file.

        Raises:
            ModelNotFound: there is none.
        """
        path = self._found(name)
        grave = self.staging(name) / "removed"
        shutil.rmtree(grave, ignore_errors=True)
        path.rename(grave)
        shutil.rmtree(self.staging(name))

    def has_leftovers(self, name: str) -> bool:
        """Tell whether an earlier preparation of `name` left anything behind."""
        return (self._staging / name).is_dir()

    def staging(self, name: str) -> Path:
        """Return the directory where `name` is prepared; it is made if it is not there."""
        path = self._staging / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def lock_file(self, name: str) -> Path:
        """Return the file to lock while `name` is prepared or removed."""
        self._staging.mkdir(parents=True, exist_ok=True)
        return self._staging / f"{name}.lock"

    def publish(self, name: str, built: Path) -> Path:
        """Make the complete directory `built` package `name`, by one rename that survives a crash.

        A package of that name must not be there.
        """
        self._models.mkdir(parents=True, exist_ok=True)
        path = self._models / name
        try:
            built.rename(path)
        except OSError as exc:
            if exc.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                msg = f"{path} is there already"
                raise ModelError(msg) from exc
            raise
        sync_directory(self._models)
        return path

    def _found(self, name: str) -> Path:
        if name not in self.names():
            raise ModelNotFound(name, self.names())
        return self._models / name


def check_files(package: Path, progress: Progress) -> None:
    """Compare every file of `package` with the hash in its manifest, and what was prepared here.

    Raises:
        ModelError: a file is missing, or is not what was written.
    """
    manifest = read_manifest(package)
    show = progress.stage(Stage.VERIFY, manifest.total_bytes)
    done_bytes = 0
    for file, expected in _files(package, manifest):
        found = sha256(file, _after(done_bytes, show), expected.bytes)
        if found != expected.sha256:
            msg = (
                f"{file} is damaged: sha256 {found}, not {expected.sha256}; {_again(package.name)}"
            )
            raise ModelError(msg)
        done_bytes += expected.bytes
    prepared.check(package, manifest, progress)


def sha256(path: Path, report: Callable[[int], None], num_bytes: int = sys.maxsize) -> str:
    """Return the hash of the first `num_bytes` of the file at `path`, or of all of it.

    `report` gets the bytes read so far.
    """
    digest = hashlib.sha256()
    done_bytes = 0
    with path.open("rb") as file:
        while block := file.read(min(_READ_BYTES, num_bytes - done_bytes)):
            digest.update(block)
            done_bytes += len(block)
            report(done_bytes)
    return digest.hexdigest()


def sync_directory(path: Path) -> None:
    """Bring the names in directory `path` to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _files(package: Path, manifest: Manifest) -> Iterator[tuple[Path, File]]:
    """Yield the files of `package`, each of the size it should have."""
    for name, expected in manifest.files.items():
        path = package / name
        try:
            actual_bytes = path.stat().st_size
        except OSError as exc:
            msg = f"{path}: {exc.strerror}; {_again(package.name)}"
            raise ModelError(msg) from exc
        if not _is_size(package, name, expected, actual_bytes):
            msg = f"{path} has {actual_bytes} bytes, not {expected.bytes}; {_again(package.name)}"
            raise ModelError(msg)
        yield path, expected


def _is_size(package: Path, name: str, expected: File, actual_bytes: int) -> bool:
    if name == prepared.WEIGHTS:  # alone of all files it grows, when it is prepared
        return prepared.explains(package, expected, actual_bytes)
    return actual_bytes == expected.bytes


def _after(done_bytes: int, show: Callable[[int], None]) -> Callable[[int], None]:
    return lambda here_bytes: show(done_bytes + here_bytes)


def _is_name(name: str) -> bool:
    return re.fullmatch(NAME_PATTERN, name) is not None


def _again(name: str) -> str:
    return f"`edge-agent model remove {name}` and pull it again"

"""A package as one plain tar file, for machines without a network.

The manifest comes first, then its files by name, each with the hash that the manifest says; what a
machine has prepared for itself stays at home. Reading needs no trust: members are 512-byte headers
of plain files that the manifest lists, checked before their bytes are, and nothing else is looked
at: no links, no extended headers, no paths.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import ModelError
from edge_agent.modelstore import disk, manifest
from edge_agent.modelstore.progress import Stage
from edge_agent.modelstore.store import sync_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO, NoReturn

    from edge_agent.modelstore.manifest import File, Manifest
    from edge_agent.modelstore.progress import Progress

_BLOCK_BYTES = tarfile.BLOCKSIZE
_COPY_BYTES = 1 << 20
_MAGIC = slice(257, 262)  # "ustar", in POSIX tar and in GNU's
_PLAIN_FILE = {tarfile.REGTYPE, tarfile.AREGTYPE}


def is_archive(path: Path) -> bool:
    """Tell whether there is a plain file at `path` that looks like a tar file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(_BLOCK_BYTES)[_MAGIC] == b"ustar"


def export(package: Path, target: Path, progress: Progress) -> None:
    """Write `package` to the new file `target`; equal packages give equal files.

    Raises:
        ModelError: `target` is there already, a file of the package is damaged, or the disk is too
            small.
        OSError: the disk fails.
    """
    if target.exists():
        msg = f"{target} is there already"
        raise ModelError(msg)
    facts = manifest.read_manifest(package)
    disk.require(f"writing {target}", facts.total_bytes, target.parent)
    part = target.with_name(f"{target.name}.part")
    try:
        with part.open("wb") as out:
            _write_members(package, facts, out, progress.stage(Stage.EXPORT, facts.total_bytes))
            out.flush()
            os.fsync(out.fileno())
        part.rename(target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_facts(path: Path) -> Manifest:
    """Return the manifest of the package in the tar file `path`.

    Raises:
        ModelError: it is not one of ours, or lists files that no package has.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _Reader(path, file).facts()


def unpack(path: Path, package: Path, *, name: str, progress: Progress) -> None:
    """Write the package in the tar file `path` to the new directory `package`, under `name`.

    Raises:
        ModelError: a member is not what the manifest says, or no plain file of it.
        OSError: disk full or the like.
    """
    with path.open("rb") as file:
        reader = _Reader(path, file)
        facts = msgspec.structs.replace(reader.facts(), name=name)
        show = progress.stage(Stage.UNPACK, facts.total_bytes)
        package.mkdir()
        done_bytes = 0
        missing = dict(facts.files)
        for member in reader.members(missing):
            expected = missing.pop(member.name)
            with (package / member.name).open("xb") as out:
                reader.copy(member, expected, out, _after(done_bytes, show))
                out.flush()
                os.fsync(out.fileno())
            done_bytes += expected.bytes
    if missing:
        msg = f"{path}: {next(iter(missing))} is missing"
        raise ModelError(msg)
    manifest.write_manifest(package, facts)
    sync_directory(package)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    num_bytes: int


class _Reader:
    """Walks through the members of a tar file, which must come as we write them."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    def facts(self) -> Manifest:
        """Read the first member, which is the manifest."""
        member = self._next_member()
        if member is None or member.name != manifest.FILE_NAME:
            self._refuse(f"does not begin with {manifest.FILE_NAME}")
        if member.num_bytes > manifest.LIMIT_BYTES:
            self._refuse(f"its manifest is over {manifest.LIMIT_BYTES} bytes")
        data = b"".join(self._data(member))
        facts = manifest.parse_manifest(data, self._path)
        strange = [name for name in facts.files if manifest.is_reserved(name)]
        if strange:
            self._refuse(f"{strange[0]} is no file of a package to share")
        return facts

    def members(self, wanted: dict[str, File]) -> Iterator[_Member]:
        """Yield the other members while they are `wanted`; each must be read before the next."""
        while member := self._next_member():
            if member.name not in wanted:
                self._refuse(f"{member.name!r} is there twice, or not in the manifest")
            if member.num_bytes != wanted[member.name].bytes:
                listed = wanted[member.name].bytes
                self._refuse(f"{member.name} has {member.num_bytes} bytes, not {listed}")
            yield member

    def copy(
        self, member: _Member, expected: File, out: BinaryIO, report: Callable[[int], None]
    ) -> None:
        """Write the data of `member` to `out` and compare its hash."""
        digest = hashlib.sha256()
        done_bytes = 0
        for data in self._data(member):
            out.write(data)
            digest.update(data)
            done_bytes += len(data)
            report(done_bytes)
        if digest.hexdigest() != expected.sha256:
            self._refuse(f"{member.name} is damaged: its sha256 is not {expected.sha256}")

    def _next_member(self) -> _Member | None:
        header = self._file.read(_BLOCK_BYTES)
        if header == bytes(_BLOCK_BYTES):
            return None
        try:
            # One header by itself: the reader of tarfile follows links and long names.
            found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError) as exc:
            self._refuse(f"not a tar file, or cut off ({exc})")
        if found.type not in _PLAIN_FILE or found.size < 0:
            self._refuse(f"{found.name!r} is not a plain file")
        return _Member(found.name, found.size)

    def _data(self, member: _Member) -> Iterator[bytes]:
        left_bytes = member.num_bytes
        while left_bytes:
            data = self._file.read(min(_COPY_BYTES, left_bytes))
            if not data:
                self._refuse(f"cut off within {member.name}")
            left_bytes -= len(data)
            yield data
        self._file.read(-member.num_bytes % _BLOCK_BYTES)

    def _refuse(self, problem: str) -> NoReturn:
        msg = f"{self._path}: {problem}"
        raise ModelError(msg)


def _write_members(
    package: Path, facts: Manifest, out: BinaryIO, show: Callable[[int], None]
) -> None:
    text = (package / manifest.FILE_NAME).read_bytes()
    out.write(_header(manifest.FILE_NAME, len(text), facts.created))
    out.write(text)
    out.write(bytes(-len(text) % _BLOCK_BYTES))
    done_bytes = 0
    for name, expected in sorted(facts.files.items()):
        out.write(_header(name, expected.bytes, facts.created))
        _write_file(package / name, expected, out, _after(done_bytes, show))
        out.write(bytes(-expected.bytes % _BLOCK_BYTES))
        done_bytes += expected.bytes
    out.write(bytes(2 * _BLOCK_BYTES))


def _write_file(path: Path, expected: File, out: BinaryIO, report: Callable[[int], None]) -> None:
    """Copy as many bytes of the file at `path` as were published; more are this machine's own."""
    digest = hashlib.sha256()
    done_bytes = 0
    with path.open("rb") as file:
        while data := file.read(min(_COPY_BYTES, expected.bytes - done_bytes)):
            out.write(data)
            digest.update(data)
            done_bytes += len(data)
            report(done_bytes)
    if digest.hexdigest() != expected.sha256:
        msg = f"{path} is damaged: its sha256 is not {expected.sha256}"
        raise ModelError(msg)


def _header(name: str, num_bytes: int, created: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = num_bytes, created, 0o644
    # GNU's way to say sizes from 8 GiB on needs no second header.
    return member.tobuf(tarfile.GNU_FORMAT)


def _after(done_bytes: int, report: Callable[[int], None]) -> Callable[[int], None]:
    return lambda here_bytes: report(done_bytes + here_bytes)

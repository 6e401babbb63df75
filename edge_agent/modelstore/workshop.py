"""The place where one package is made: locked, below the staging directory, cleaned up after.

May be left at any point, by a crash too. What was whole is used again, all else is started over,
and a package is visible only when it is complete.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.errors import ModelError
from edge_agent.modelstore.disk import DISK_FULL
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.store import check_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.store import ModelStore

_PACKAGE_DIR = "package"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """What the making of package `name` works with; valid inside `opened`."""

    name: str
    store: ModelStore
    progress: Progress
    lock_fd: int
    """To be kept open by children: the lock outlives a killed parent."""

    @property
    def is_done(self) -> bool:
        """Whether the package is there, perhaps made by whoever held the lock before."""
        return self.name in self.store.names()

    @property
    def staging(self) -> Path:
        """Where files go that a next attempt can use."""
        return self.store.staging(self.name)

    def build(self, write: Callable[[Path], None]) -> None:
        """Have `write` make a directory, check its files, and publish it."""
        package = self.staging / _PACKAGE_DIR
        shutil.rmtree(package, ignore_errors=True)
        try:
            write(package)
            check_files(package, self.progress)
            self.store.publish(self.name, package)
        except (ModelError, OSError):
            shutil.rmtree(package, ignore_errors=True)  # a full disk needs the room
            raise


@contextmanager
def opened(name: str, store: ModelStore, progress: Progress) -> Iterator[Workshop]:
    """Yield the workshop of package `name`, after whoever has it; left behind clean on success.

    Raises:
        ModelError: the disk is full or cannot be written.
    """
    try:
        with holding(
            store.lock_file(name),
            lambda: progress.say(f"another process prepares {name}; waiting for it"),
        ) as lock_fd:
            workshop = Workshop(name=name, store=store, progress=progress, lock_fd=lock_fd)
            try:
                yield workshop
            except BaseException:
                with suppress(OSError):
                    workshop.staging.rmdir()  # if there is nothing in it for a next attempt
                raise
            shutil.rmtree(workshop.staging)
    except OSError as exc:
        problem = "disk full" if exc.errno in DISK_FULL else "cannot write"
        msg = f"{problem} while preparing {name}: {exc}"
        raise ModelError(msg) from exc

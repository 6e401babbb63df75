"""The layout of the journal's file, and how one connection to it is set up."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 2
# A page is 4 KiB: the WAL is folded back every 16 MiB, so checkpoints cost few syncs a request.
_CHECKPOINT_PAGES = 4096
_LARGEST_WAL_BYTES = 64 << 20

_TABLES = """
BEGIN;
CREATE TABLE job (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  source TEXT NOT NULL,
  key BLOB,
  payload_sha BLOB NOT NULL,
  correlation BLOB,
  packet_id INTEGER,
  request BLOB,
  address BLOB NOT NULL,
  priority TEXT NOT NULL DEFAULT 'normal',
  client TEXT NOT NULL DEFAULT '',
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 1,
  crashes INTEGER NOT NULL DEFAULT 0,
  boot_id TEXT NOT NULL,
  due_boot_s REAL NOT NULL,
  due_wall_s REAL NOT NULL,
  result BLOB,
  is_published INTEGER NOT NULL DEFAULT 0,
  bytes INTEGER NOT NULL,
  UNIQUE (source, key)
);
CREATE INDEX job_open ON job (seq) WHERE state != 'done';
CREATE INDEX job_outbox ON job (seq) WHERE state = 'done' AND is_published = 0;
CREATE INDEX job_packet ON job (source, packet_id) WHERE packet_id IS NOT NULL;
CREATE INDEX job_correlation ON job (source, correlation) WHERE correlation IS NOT NULL;
PRAGMA user_version = 2;
COMMIT;
"""

# Until then a job's place in the line was its age alone.
_FROM_1_TO_2 = """
BEGIN;
ALTER TABLE job ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal';
ALTER TABLE job ADD COLUMN client TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 2;
COMMIT;
"""


class NewerSchema(Exception):
    """The file was written by a later release."""

    def __init__(self, version: int) -> None:
        super().__init__(f"journal has schema {version}, this build knows {SCHEMA_VERSION}")
        self.version = version


def connect(path: Path) -> sqlite3.Connection:
    """Open the file at `path`, creating it if it is not there.

    Raises:
        NewerSchema: a later release wrote it.
        sqlite3.Error: it cannot be opened, or is not a database.
    """
    # No implicit transactions; and sqlite3 itself refuses the connection to any other thread.
    db = sqlite3.connect(path, isolation_level=None)
    try:
        _set_up(db)
    except BaseException:
        db.close()
        raise
    return db


def _set_up(db: sqlite3.Connection) -> None:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise NewerSchema(version)
    # Waiting makes no sense: nobody else may have this file open.
    db.execute("PRAGMA busy_timeout = 0")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    db.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL_BYTES}")
    if version == 0:
        db.executescript(_TABLES)
    elif version == 1:
        db.executescript(_FROM_1_TO_2)


@contextmanager
def transaction(db: sqlite3.Connection, *, durable: bool) -> Iterator[None]:
    """Commit what happens inside, or nothing of it; `durable` syncs the commit to the disk."""
    db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")

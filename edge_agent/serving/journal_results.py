"""Results in the journal's file: what waits to be sent, and that it was confirmed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.serving.job import Result
from edge_agent.serving.journal_schema import transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection


class Results:
    """The rows whose job is done; every method is one transaction, on the journal's connection."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def outbox(self, most: int, skip: Collection[int]) -> list[Result]:
        """Return up to `most` unconfirmed results, oldest first, without those in `skip`."""
        rows = self._db.execute(
            "SELECT seq, id, address, result FROM job"
            " WHERE state = 'done' AND is_published = 0 ORDER BY seq LIMIT ?",
            (most + len(skip),),
        ).fetchall()
        free = (row for row in rows if row[0] not in skip)
        return [
            Result(seq=seq, id=id_, address=address, body=body)
            for (seq, id_, address, body), _ in zip(free, range(most), strict=False)
        ]

    def published(self, seq: int) -> None:
        """Note that the receiver's side has confirmed the result."""
        with transaction(self._db, durable=False):
            self._db.execute("UPDATE job SET is_published = 1 WHERE seq = ?", (seq,))

    def replace(self, seq: int, body: bytes) -> None:
        """Store another result for a job whose first one could never be delivered."""
        with transaction(self._db, durable=True):
            self._db.execute(
                "UPDATE job SET result = ? WHERE seq = ? AND state = 'done' AND is_published = 0",
                (body, seq),
            )

"""Requests to put into a journal, and a clock to turn by hand."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from edge_agent.messages import Message, Request, Role
from edge_agent.serving.clock import Moment
from edge_agent.serving.job import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    """A clock that stands until it is told to move."""

    def __init__(self) -> None:
        self.moment = Moment(boot_id="boot-1", boot_s=1000.0, wall_s=1_700_000_000.0)

    def __call__(self) -> Moment:
        return self.moment

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.moment = self.moment.plus(seconds)

    def set_wall(self, seconds: float) -> None:
        """Set the wall clock to `seconds` from where it is, as a time server would."""
        now = self.moment
        self.moment = Moment(boot_id=now.boot_id, boot_s=now.boot_s, wall_s=now.wall_s + seconds)

    def reboot(self, *, down_s: float) -> None:
        """Start the machine anew after `down_s` seconds."""
        self.moment = Moment(boot_id="boot-2", boot_s=10.0, wall_s=self.moment.wall_s + down_s)


def request(id_: str = "a", prompt: str = "hello", *, stream: bool = False) -> Request:
    """Return a request that says `prompt`."""
    return Request(
        id=id_,
        messages=(Message(role=Role.USER, content=prompt),),
        stream=stream,
        deadline_s=60.0,
    )


def draft(id_: str = "a", prompt: str = "hello", *, keyed: bool = True, **more: Any) -> Draft:
    """Return what a transport hands in for such a request; `more` are fields of the draft."""
    usual = {
        "key": b"i" + id_.encode() if keyed else None,
        "request": request(id_, prompt),
        "address": b"there",
        "deadline_s": 60.0,
    }
    sha = hashlib.sha256(prompt.encode()).digest()
    return Draft(source="mqtt", payload_sha=sha, **{**usual, **more})


def leftovers(directory: Path) -> Iterator[str]:
    """Yield the names of files beside the journal proper."""
    for path in sorted(directory.iterdir()):
        if path.name not in {"journal.db", "journal.db-wal", "journal.db-shm"}:
            yield path.name

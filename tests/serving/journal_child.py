"""A daemon's worth of journal work, to be killed in the middle: `python journal_child.py DIR`.

Prints `accepted ID` and `finished ID` once the journal has said so, as a daemon would its client.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from edge_agent.config import Journal as Limits
from edge_agent.serving.journal import Journal
from tests.serving.drafts import draft


def say(what: str) -> None:
    """Tell the parent at once; what it has heard cannot be taken back."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


async def main() -> None:
    """Accept, run and finish jobs until killed."""
    journal = Journal(Path(sys.argv[1]), Limits(max_jobs=100_000))
    await journal.open()
    for ticket in await journal.replay(()):
        await journal.start(ticket)
        await journal.finish(ticket.seq, b"result of " + ticket.id.encode())
        say(f"finished {ticket.id}")
    for number in range(1_000_000):
        id_ = f"{sys.argv[2]}-{number}"
        taken = await journal.accept(draft(id_, "p" * 3000))
        say(f"accepted {id_}")
        if number % 3:
            await journal.start(taken.ticket)
            if await journal.finish(taken.ticket.seq, b"result of " + id_.encode()):
                say(f"finished {id_}")


asyncio.run(main())

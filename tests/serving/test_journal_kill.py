"""Real processes, killed while they write; a real file size limit in place of a full disk."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.config import Journal as Limits
from edge_agent.serving.clock import now
from edge_agent.serving.journal_file import JournalFile
from tests.serving.drafts import draft

ROOT = Path(__file__).parents[2]
CHILD = Path(__file__).parent / "journal_child.py"


def killed_after(directory: Path, name: str, num_lines: int) -> list[str]:
    """Run the child until it has said `num_lines`, kill it, and return all that it said."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(directory), name],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout
    said = [child.stdout.readline() for _ in range(num_lines)]
    child.kill()
    said.extend(child.stdout)
    child.stdout.close()
    child.wait()
    return [line.strip() for line in said if line.endswith("\n")]


def test_what_was_said_survives_kill_9_again_and_again(tmp_path: Path) -> None:
    said: list[str] = []
    for number, num_lines in enumerate((1, 2, 7, 30, 61)):
        said += killed_after(tmp_path, f"run{number}", num_lines)

    file = JournalFile(tmp_path / "journal.db", Limits(), now)
    open_ids = {ticket.id for ticket in file.replay(())}
    results = {result.id: result.body for result in file.results.outbox(100_000, ())}
    file.close()

    accepted = {line.split()[1] for line in said if line.startswith("accepted")}
    finished = {line.split()[1] for line in said if line.startswith("finished")}
    assert len(accepted) > 40
    assert accepted <= open_ids | set(results), "an accepted job is lost"
    assert finished <= set(results), "a result is lost"
    assert not open_ids & set(results)
    assert all(body == f"result of {id_}".encode() for id_, body in results.items())


_WRITE_UNTIL_FULL = """
import asyncio, sys
from pathlib import Path
from edge_agent.config import Journal as Limits
from edge_agent.errors import Busy
from edge_agent.serving.journal import Journal
from tests.serving.drafts import draft

async def main():
    journal = Journal(Path(sys.argv[1]), Limits())
    await journal.open()
    accepted = refused = 0
    for number in range(400):
        try:
            await journal.accept(draft(f"n{number}", "p" * 4000))
            accepted += 1
        except Busy:
            refused += 1
    print(accepted, refused, journal.durability)
    await journal.close()

asyncio.run(main())
"""


def test_a_disk_that_fills_up_refuses_and_keeps_what_it_took(tmp_path: Path) -> None:
    """The kernel ends writes beyond the limit with an error, as a full disk would."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    child = subprocess.run(
        [sys.executable, "-c", _WRITE_UNTIL_FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    accepted, refused, durability = child.stdout.split()

    file = JournalFile(tmp_path / "journal.db", Limits(), now)
    kept = len(file.replay(()))
    file.close()
    assert int(refused) > 0
    assert durability == "none"
    assert kept >= int(accepted) > 10
    assert "refuses work" in child.stderr


def test_only_accepting_and_finishing_cost_a_sync(tmp_path: Path) -> None:
    """A commit syncs with FULL, and with NORMAL only writes: see the module's own words."""
    file = JournalFile(tmp_path / "journal.db", Limits(), now)
    levels: list[str] = []
    current = ""

    def trace(statement: str) -> None:
        nonlocal current
        if statement.startswith("PRAGMA synchronous"):
            current = statement.rpartition(" ")[2]
        if statement == "COMMIT":
            levels.append(current)

    file._db.set_trace_callback(trace)
    taken = file.accept(draft("a"))
    file.start(taken.ticket.seq, durable=False)
    file.finish(taken.ticket.seq, b"result")
    file.results.published(taken.ticket.seq)
    file.close()

    assert levels == ["FULL", "NORMAL", "FULL", "NORMAL"]


@pytest.mark.parametrize("pragma", ["journal_mode", "wal_autocheckpoint", "journal_size_limit"])
def test_the_file_is_set_up_to_be_durable_and_bounded(tmp_path: Path, pragma: str) -> None:
    file = JournalFile(tmp_path / "journal.db", Limits(), now)
    [(value,)] = file._db.execute(f"PRAGMA {pragma}")
    file.close()

    expected = {"journal_mode": "wal", "wal_autocheckpoint": 4096, "journal_size_limit": 64 << 20}
    assert value == expected[pragma]

"""What is said to be available under a real limit can be taken, and more cannot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.real.limited import memory_group

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

LIMIT_BYTES = 300 << 20
# What an interpreter takes by itself while it does the rest, and what the kernel rounds.
MARGIN_BYTES = 12 << 20

# Joins the group, maps and reads a file, takes memory, looks; then takes more, if told so.
CHILD = """
import json, mmap, os, sys
from pathlib import Path
group, file, own, more = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
(group / "cgroup.procs").write_text(str(os.getpid()))
from edge_agent.guard.sample import sample

def take(size):
    room = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size, mmap.PAGESIZE):
        room[offset] = 1
    return room

with open(file, "rb") as opened:
    mapped = mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)
for _ in range(2):  # a second time, so that the pages count as recently used
    sum(mapped[offset] for offset in range(0, len(mapped), mmap.PAGESIZE))
held = take(own)
memory = sample(pids=[os.getpid()])
print(json.dumps([memory.available_bytes, memory.swift_bytes, memory.total_bytes, memory.bound]))
sys.stdout.flush()
if more != "nothing":
    rest = take(memory.available_bytes + int(more))
"""


def child(group: Path, file: Path, *, own_bytes: int, more: str) -> tuple[int, list[int | str]]:
    arguments = [str(group), str(file), str(own_bytes), more]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], check=False, capture_output=True, text=True
    )
    return done.returncode, json.loads(done.stdout or "[]")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(bytes(100 << 20))
    return path


def test_available_is_the_limit_less_what_cannot_be_dropped(weights: Path) -> None:
    with memory_group(LIMIT_BYTES) as group:
        code, (available, swift, total, bound) = child(
            group.directory, weights, own_bytes=80 << 20, more="nothing"
        )
    assert code == 0
    assert (total, bound) == (LIMIT_BYTES, str(group.directory))
    assert available == pytest.approx(LIMIT_BYTES - (80 << 20), abs=2 * MARGIN_BYTES)
    # Mapped weights are available, but not for nothing.
    assert swift == pytest.approx(LIMIT_BYTES - (180 << 20), abs=2 * MARGIN_BYTES)


def test_all_that_is_available_can_be_taken_from_under_mapped_weights(weights: Path) -> None:
    with memory_group(LIMIT_BYTES) as group:
        code, _ = child(group.directory, weights, own_bytes=80 << 20, more=str(-MARGIN_BYTES))
    assert code == 0


def test_more_than_is_available_cannot(weights: Path) -> None:
    with memory_group(LIMIT_BYTES) as group:
        code, _ = child(group.directory, weights, own_bytes=80 << 20, more=str(MARGIN_BYTES))
    assert code == -signal.SIGKILL

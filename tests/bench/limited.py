"""Runs a package inside a memory limit, and tells what became of it.

    python -m tests.bench.limited PACKAGE --limit 3000000000

A prompt of 2,000 tokens and 256 new ones, in an engine with two slots of 4,096 tokens. As root, on
a machine whose memory controller is version 1; swap is not used inside. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.contestant import Contestant
from tests.bench.runners.task import Task
from tests.bench.stable import RunnerFailed, Stable
from tests.memory_group import MemoryGroup, memory_group

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMPT_TOKENS, ANSWER_TOKENS, SLOTS, CONTEXT, THREADS = 2000, 256, 2, 4096, 2
TASKS = (
    Task(kind="memory", tokens=PROMPT_TOKENS),
    Task(kind="prefill", tokens=PROMPT_TOKENS),
    Task(kind="decode", tokens=PROMPT_TOKENS, new_tokens=ANSWER_TOKENS),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--limit", type=int, help="bytes; without it there is no limit")
    parser.add_argument("--kv-dtype", default="fp32")
    args = parser.parse_args()
    drop_cached(args.package)
    contestant = Contestant.of(
        "ours",
        "ours",
        python=sys.executable,
        memory_bytes=0,
        package=str(args.package.absolute()),
        slots=SLOTS,
        context=CONTEXT,
        threads=THREADS,
        kv_dtype=args.kv_dtype,
    )
    with _group(args.limit) as group:
        told = _answer(contestant, group)
    print(json.dumps(told))  # noqa: T201  # it is what the caller reads
    return "error" in told


def drop_cached(package: Path) -> None:
    """Have the kernel forget the files: a page counts for the group that brought it in."""
    for path in package.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _group(limit_bytes: int | None) -> Iterator[MemoryGroup | None]:
    if limit_bytes is None:
        yield None
        return
    with memory_group(limit_bytes) as group:
        yield group


def _answer(contestant: Contestant, group: MemoryGroup | None) -> dict[str, object]:
    """Do the tasks inside the group; its members have ended on return."""
    told: dict[str, object] = {}
    joined = group.joined if group else list
    with Stable(room_bytes=0, logs=Path("/tmp"), started_as=joined) as stable:
        try:
            for task in TASKS:
                told |= {f"{task.kind}_{k}": v for k, v in stable.run(contestant, task).items()}
        except RunnerFailed as exc:
            told["error"] = str(exc)
    if group:
        told |= {"peak_mb": group.peak_bytes // 10**6, "oom_kills": group.oom_kills}
    return told


if __name__ == "__main__":
    sys.exit(main())

"""Runs a package inside a cgroup (version 1) with a memory limit, and tells what became of it.

    python tests/bench/limited.py PACKAGE --limit 3000000000

A prompt of 2,000 tokens and 256 new ones, in an engine with two slots of 4,096 tokens. As root, on
a machine whose memory controller is version 1; swap is not used inside. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

MEMORY = Path("/sys/fs/cgroup/memory")
PROMPT_TOKENS, ANSWER_TOKENS, SLOTS, CONTEXT = 2000, 256, 2, 4096


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--limit", type=int, help="bytes; without it there is no limit")
    parser.add_argument("--kv-dtype", default="fp32")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        answer(args.package, args.kv_dtype)
        return 0
    drop_cached(args.package)
    if args.limit is None:
        return subprocess.run([sys.executable, *sys.argv, "--inside"], check=False).returncode
    return limited(args.limit)


def drop_cached(package: Path) -> None:
    """Have the kernel forget the files: a page counts for the group that brought it in."""
    for path in package.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def limited(limit_bytes: int) -> int:
    """Run ourselves again inside a group of its own, and remove that afterwards."""
    group = MEMORY / f"edge-agent-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.swappiness").write_text("0")
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        process = subprocess.Popen(
            [sys.executable, *sys.argv, "--inside"],
            preexec_fn=lambda: (group / "tasks").write_text(str(os.getpid())),  # noqa: PLW1509
        )
        status = process.wait()
        events = (group / "memory.oom_control").read_text().split()
        told = {
            "exit_status": status,
            "limit_mb": limit_bytes // 10**6,
            "peak_mb": int((group / "memory.max_usage_in_bytes").read_text()) // 10**6,
            "oom_kills": int(events[events.index("oom_kill") + 1])
            if "oom_kill" in events
            else None,
        }
        print(json.dumps(told), flush=True)  # noqa: T201  # it is what the caller reads
        return status
    finally:
        for _ in range(50):  # a group empties a moment after its last process
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.1)


def answer(package: Path, kv_dtype: str) -> None:
    """Load, read the prompt, write the answer; print how fast."""
    from edge_agent.cli.timing import memory_mb  # noqa: PLC0415  # only inside the group
    from edge_agent.engine.answer import Prepared  # noqa: PLC0415
    from edge_agent.engine.engine import Engine  # noqa: PLC0415
    from edge_agent.messages import Sampling  # noqa: PLC0415

    began_s = time.perf_counter()
    engine = Engine(
        package,
        slots=SLOTS,
        context=CONTEXT,
        chunk_tokens=128,
        threads=2,
        queue_requests=2,
        kv_dtype=kv_dtype,
    )
    loaded_s = time.perf_counter()
    prompt = [1000 + i % 16000 for i in range(PROMPT_TOKENS)]
    engine.submit(
        Prepared(
            id="long",
            prompt=prompt,
            max_tokens=ANSWER_TOKENS,
            stop=(),
            stop_ids=(),
            sampling=Sampling(temperature=0),
        )
    )
    while engine.prefilling or engine.waiting:
        engine.step()
    first_s = time.perf_counter()
    while engine.busy:
        engine.step()
    ended_s = time.perf_counter()
    told = {
        "load_s": round(loaded_s - began_s, 2),
        "prefill_tok_s": round(PROMPT_TOKENS / (first_s - loaded_s), 1),
        "decode_tok_s": round((ANSWER_TOKENS - 1) / (ended_s - first_s), 2),
        **memory_mb(),
    }
    print(json.dumps(told), flush=True)  # noqa: T201  # it is what the caller reads


if __name__ == "__main__":
    sys.exit(main())

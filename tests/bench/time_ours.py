"""Times a package as the peers' timers time theirs: one JSON line, for a race A B A B.

    python tests/bench/time_ours.py PACKAGE --prompt 512 --gen 32

Decode is timed after a prompt of the same length, in a cache with room for 1,024 tokens or what
the prompt needs; the speed of prefill is that of a prompt up to its first token.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edge_agent.cli.timing import Task, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package", type=Path)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--gen", type=int, default=32)
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--chunk", type=int, default=128)
    parser.add_argument("--kv-dtype", default="fp32")
    args = parser.parse_args()
    task = Task(
        prompts=(args.prompt,),
        streams=(1,),
        depth=args.prompt,
        tokens=args.gen - 1,
        reps=args.reps,
        threads=args.threads,
        chunk_tokens=args.chunk,
        kv_dtype=args.kv_dtype,
    )
    figures = measure(args.package, task)
    line = {
        "prompt_tokens": args.prompt,
        "prefill_tok_s": figures["prefill_tok_s"][str(args.prompt)],
        "decode_tok_s": figures["decode_tok_s"]["1"],
        "rss_anon_mb": figures["rss_anon_mb"],
        "peak_rss_mb": figures["peak_rss_mb"],
        "load_s": figures["load_s"],
    }
    print(json.dumps(line))  # noqa: T201  # it is what the race reads


if __name__ == "__main__":
    main()

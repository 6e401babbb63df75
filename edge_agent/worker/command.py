"""The command line of the engine process: the configuration as the arguments of the host."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edge_agent.ops.cores import usable_cores

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.config import Config


def engine_command(config: Config, package: Path, *, pinned: Path | None = None) -> list[str]:
    """Return the command that serves `package`; the supervisor adds the link.

    `pinned` lists system prompts and tools in a file: command lines are for all to see.
    """
    engine = config.engine
    threads = usable_cores() if engine.threads == "auto" else engine.threads
    options = {
        "package": package,
        "slots": engine.slots,
        "context": engine.context,
        "chunk-tokens": engine.chunk_tokens,
        "draft-tokens": engine.draft_tokens,
        "threads": threads,
        "kv-dtype": engine.kv_dtype,
        # The router bounds what is inside; all of it may arrive before the first step gives slots.
        "queue-requests": engine.slots + engine.queue_requests,
        "kept-pace": engine.kept_pace,
        "ageing-s": engine.ageing_s,
        "log-level": config.daemon.log_level,
        "log-format": config.daemon.log_format,
    }
    if engine.most_prefix_bytes is not None:
        options["prefix-bytes"] = engine.most_prefix_bytes
    if pinned is not None:
        options["pinned"] = pinned
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "edge_agent.worker.host", *arguments]

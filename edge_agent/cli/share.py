"""Which share of the memory bandwidth decoding uses, measured in turns with plain readers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from edge_agent.cli.bandwidth import Probe, paired_share
from edge_agent.modelstore.fit import kv_bytes_per_token, streamed_bytes
from edge_agent.modelstore.manifest import read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.cli.bandwidth import Share
    from edge_agent.engine.engine import Engine

_BURSTS = 24
# Some 0.4 s of a model of 2 GB: short beside the moods of a virtual machine's memory.
_BURST_STEPS = 5
STEPS = _BURSTS * _BURST_STEPS
"""So many tokens every answer must have left."""


def measure_share(engine: Engine, package: Path, kv_dtype: str) -> Share:
    """Return the share of `engine`, whose answers all decode and go on for `STEPS` steps.

    What a step reads is the packed weights, and of the cache what stands in it: activations stay in
    the processor's own caches, and norms and scales are a thousandth of the rest.
    """
    manifest = read_manifest(package)
    weights = streamed_bytes(manifest.shape, manifest.quantization)
    per_token = kv_bytes_per_token(manifest.shape, kv_dtype)

    def burst() -> float:
        num_bytes, began_s = 0, time.perf_counter()
        for _ in range(_BURST_STEPS):
            num_bytes += weights + engine.running_tokens * per_token
            engine.step()
        return num_bytes / (time.perf_counter() - began_s) / 1e9

    with Probe(engine.threads) as probe:
        return paired_share(burst, probe.passes_gb_s, _BURSTS)


def step_gb(package: Path) -> float:
    """Return the gigabytes of weights that every step reads."""
    manifest = read_manifest(package)
    return streamed_bytes(manifest.shape, manifest.quantization) / 1e9

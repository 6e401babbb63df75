"""Shapes of real models, for sums that need no weights."""

from __future__ import annotations

from edge_agent.modelstore.manifest import Shape

PHI = Shape(
    layers=32,
    hidden=3072,
    heads=24,
    kv_heads=8,
    head_dim=128,
    intermediate=8192,
    vocab=200064,
    norm_eps=1e-5,
)
SMOL = Shape(
    layers=30,
    hidden=576,
    heads=9,
    kv_heads=3,
    head_dim=64,
    intermediate=1536,
    vocab=49152,
    norm_eps=1e-5,
)

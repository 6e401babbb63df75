"""The rotations of Phi-4-mini at its real dimensions are those of transformers, in both modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.engine.rope import rope_tables
from edge_agent.importers.hf_rope import read_rope
from tests.real.parity.checkpoints import LONG_POSITIONS, PHI4_MINI, SHORT_POSITIONS

REFERENCE = np.load(Path(__file__).with_name("reference.npz"))
ROPE = read_rope(PHI4_MINI, head_dim=128, context=131_072)
TABLES = rope_tables(ROPE, capacity=131_072 + 128)


def test_the_attention_factor_is_that_of_the_model() -> None:
    assert pytest.approx(1.190238, abs=1e-6) == ROPE.attention_factor
    assert (
        TABLES.cos[0, 0] == TABLES.cos[TABLES.long_offset, 0] == np.float32(ROPE.attention_factor)
    )


@pytest.mark.parametrize(
    ("mode", "positions", "first"),
    [("short", SHORT_POSITIONS, 0), ("long", LONG_POSITIONS, TABLES.long_offset)],
)
@pytest.mark.parametrize("side", ["cos", "sin"])
def test_rows_are_those_of_transformers(
    mode: str, positions: tuple[int, ...], first: int, side: str
) -> None:
    ours = getattr(TABLES, side)[np.array(positions) + first]
    theirs = REFERENCE[f"phi-4-mini.{mode}.{side}"]

    # A frequency that is off by its last place in float32 would show as 0.01 at the last position.
    assert np.abs(ours - theirs).max() < 1e-4

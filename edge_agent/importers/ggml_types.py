"""The types of GGML: how many weights and bytes a block of each has, and its number in a file.

What the bytes mean is for `ggml_blocks`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A GGML type: `block_bytes` bytes hold `block` weights."""

    name: str
    block: int
    block_bytes: int

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a row of `columns` weights, which must be whole blocks."""
        if columns % self.block:
            msg = f"rows of {columns} weights are not whole blocks of {self.block} ({self.name})"
            raise ModelError(msg)
        return columns // self.block * self.block_bytes


# The numbers are those of the GGUF format. All have a size here; `ggml_blocks` reads most of them.
KINDS: dict[int, Kind] = {
    number: Kind(name=name, block=block, block_bytes=block_bytes)
    for number, name, block, block_bytes in (
        (0, "F32", 1, 4),
        (1, "F16", 1, 2),
        (2, "Q4_0", 32, 18),
        (3, "Q4_1", 32, 20),
        (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24),
        (8, "Q8_0", 32, 34),
        (10, "Q2_K", 256, 84),
        (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144),
        (13, "Q5_K", 256, 176),
        (14, "Q6_K", 256, 210),
        (30, "BF16", 1, 2),
    )
}

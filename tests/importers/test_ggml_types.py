"""Sizes of the types against those of the `gguf` package."""

from __future__ import annotations

import gguf
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.ggml_types import KINDS


@pytest.mark.parametrize("number", KINDS)
def test_block_sizes_are_those_of_the_format(number: int) -> None:
    kind = gguf.GGMLQuantizationType(number)

    assert KINDS[number].name == kind.name
    assert (KINDS[number].block, KINDS[number].block_bytes) == gguf.GGML_QUANT_SIZES[kind]


def test_rows_that_are_no_whole_blocks_have_no_size() -> None:
    with pytest.raises(ModelError, match="100 weights are not whole blocks of 256"):
        KINDS[12].row_bytes(100)

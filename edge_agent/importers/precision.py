"""How each weight of a package is stored: carried over, rounded, or as floats. Pure decisions.

Blocks that the source has are kept exactly, unless something else is asked for; where 8 bits are,
blocks of 4 bits are kept in them. What the source has as floats is rounded to what is asked for, or
else to the default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from edge_agent.errors import ModelError
from edge_agent.importers.source import Blocks

if TYPE_CHECKING:
    from edge_agent.importers.source import Model, Product
    from edge_agent.modelstore.card import Precision

FLOAT_BITS = 32
DEFAULT_BITS, DEFAULT_HEAD_BITS, DEFAULT_BLOCK = 4, 8, 32
# What rounding makes, the best for speed first.
BLOCKS = (128, 64, 32)
# Rows of these are tokens. Where both are one array, that is `embedding`.
TOKEN_PRODUCTS = ("embedding", "head")
# From here on a token costs so much that a gateway cannot afford to multiply in fp32.
LARGE_MODEL_WEIGHTS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a product is stored; `blocks` None is float32."""

    blocks: Blocks | None
    is_carried: bool = False
    """Whether these are the source's own blocks, whose weights stay exactly as they are."""


def storage(product: Product, asked: Precision) -> Storage:
    """Return how all parts of `product` are stored; they are one array, so all alike.

    Left out, `bits` and `block` are those of the source where all its parts have blocks (the most
    bits, where they differ), else the default; `head_bits` are as `bits` where those are 8 or 32.

    Raises:
        ModelError: it must be rounded, but its rows are not whole blocks of any size.
    """
    kinds = [_usable(product.name, part.blocks) for part in product.parts]
    first, bits = kinds[0], _bits_asked(product.name, asked)
    if first is not None and len(set(kinds)) == 1 and _fits(first, bits, asked.block):
        return Storage(blocks=replace(first, bits=bits or first.bits), is_carried=True)
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        known = [_default(product.name)]
    bits = bits or max(kind.bits for kind in known)
    if bits == FLOAT_BITS:
        return Storage(blocks=None)
    widest = asked.block or min(kind.block for kind in known)
    return Storage(blocks=Blocks(bits=bits, block=_largest_block(product, widest)))


def activations(model: Model, asked: Precision) -> Literal["exact", "int8"]:
    """Return how activations are multiplied: as asked, else exactly in models that are small."""
    is_small = model.num_weights < LARGE_MODEL_WEIGHTS
    return asked.activations or ("exact" if is_small else "int8")


def _usable(name: str, blocks: Blocks | None) -> Blocks | None:
    # A look-up of rows has no place for offsets.
    return None if name == "embedding" and blocks is not None and blocks.has_offsets else blocks


def _bits_asked(name: str, asked: Precision) -> int | None:
    if name not in TOKEN_PRODUCTS:
        return asked.bits
    return asked.head_bits or (asked.bits if asked.bits != DEFAULT_BITS else None)


def _fits(blocks: Blocks, bits: int | None, block: int | None) -> bool:
    """Tell whether `blocks` can be stored as asked without rounding."""
    is_wide_enough = bits is None or blocks.bits <= bits < FLOAT_BITS
    return is_wide_enough and block in {None, blocks.block}


def _default(name: str) -> Blocks:
    bits = DEFAULT_HEAD_BITS if name in TOKEN_PRODUCTS else DEFAULT_BITS
    return Blocks(bits=bits, block=DEFAULT_BLOCK)


def _largest_block(product: Product, widest: int) -> int:
    """Return the largest block up to `widest` that divides the rows."""
    for block in BLOCKS:
        if block <= max(widest, min(BLOCKS)) and product.columns % block == 0:
            return block
    msg = f"{product.name}: rows of {product.columns} weights are not whole blocks of {min(BLOCKS)}"
    raise ModelError(msg)

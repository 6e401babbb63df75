"""What the bytes of each GGML type mean: raw rows -> floats, or the same blocks in our order.

The layouts of the types are those of GGML's `block_q4_0`, `block_q4_K` and so on. A quantized row
is a run of blocks whose weights are `scale * q + offset` with small integers q; the K types pack
256 weights with sub-blocks of 32 or 16, whose scales are themselves small integers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.importers import quantize
from edge_agent.importers.quantize import Packed
from edge_agent.importers.source import Blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from edge_agent.importers.arrays import F32, Raw
    from edge_agent.importers.ggml_types import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Affine:
    """Blocks whose weights are `scale * q + offset`.

    `q` is int8 [rows, blocks, block]; `scale` and `offset` are float32 [rows, blocks].
    """

    q: NDArray[np.int8]
    scale: F32
    offset: F32 | None = None

    def floats(self) -> F32:
        """Return the weights, float32 [rows, columns], rounded as GGML rounds them."""
        weights: F32 = self.q.astype(np.float32)
        weights *= self.scale[..., None]
        if self.offset is not None:
            weights += self.offset[..., None]
        return weights.reshape(len(weights), -1)


def floats(kind: Kind, raw: Raw) -> F32:
    """Return rows of weights, float32 [rows, columns], from raw uint8 [rows, row bytes].

    Raises:
        ModelError: this version does not read `kind`, or a weight is infinity or NaN.
    """
    if kind.name in _AFFINE:
        return _affine(kind, raw).floats()
    read = _FLOATS.get(kind.name)
    if read is None:
        known = ", ".join(sorted({*_FLOATS, *_AFFINE}))
        msg = f"weights of type {kind.name} are not read by this version; it reads {known}"
        raise ModelError(msg)
    weights = read(raw)
    if not np.isfinite(weights).all():
        msg = f"{kind.name} weights hold infinity or NaN"
        raise ModelError(msg)
    return weights


def carried(kind: Kind) -> Blocks | None:
    """Return how `packed` gives the blocks of `kind`; None where there are only floats.

    Those that need no second rounding at 4 or 8 bits and a block the kernels know. The 5-bit types
    would waste three bits of each weight, the K types are mixed within one model.
    """
    return _CARRIED.get(kind.name)


def packed(kind: Kind, raw: Raw) -> Packed:
    """Return the blocks of raw rows, uint8 [rows, row bytes], with the integers they have there.

    A type with an offset counts from 0, ours from the centre: what that moves goes into the offset,
    the last bit of which float32 may round.

    Raises:
        ModelError: a scale or an offset is infinity or NaN.
    """
    blocks, bits = _affine(kind, raw), _CARRIED[kind.name].bits
    centre = quantize.centre(bits)
    steps, offsets = blocks.q.view(np.uint8), None
    if blocks.offset is None:
        steps = steps + np.uint8(centre)  # q is signed: two's complement wraps around
    else:
        offsets = blocks.offset + np.float32(centre) * blocks.scale
    values = quantize.pack(steps, bits)
    return Packed(bits=bits, values=values, scales=blocks.scale, offsets=offsets)


def _affine(kind: Kind, raw: Raw) -> _Affine:
    with np.errstate(invalid="ignore"):  # infinity times zero is NaN, which is refused below
        blocks = _AFFINE[kind.name](raw.reshape(len(raw), -1, kind.block_bytes))
    finite = np.isfinite(blocks.scale).all() and (
        blocks.offset is None or np.isfinite(blocks.offset).all()
    )
    if not finite:
        msg = f"{kind.name} scales hold infinity or NaN"
        raise ModelError(msg)
    return blocks


def _float16(raw: Raw) -> F32:
    return np.ascontiguousarray(raw).view("<f2").astype(np.float32)


def _bfloat16(raw: Raw) -> F32:
    bits = np.ascontiguousarray(raw).view("<u2").astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32)


def _scalar(raw: Raw) -> F32:
    """Return the float16 of each block, float32 [rows, blocks], from raw [rows, blocks, 2]."""
    return _float16(raw)[..., 0]


def _fields(raw: Raw, width: int, bits: int) -> Raw:
    """Split every byte into fields of `bits`, the lowest first, `width` bytes at a time.

    Of each run of `width` bytes the lowest fields of all come first, then the next: [..., bytes]
    becomes [..., bytes * 8 / bits].
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    runs = raw.reshape(*raw.shape[:-1], -1, 1, width)
    fields = runs >> shifts & np.uint8((1 << bits) - 1)
    return fields.reshape(*raw.shape[:-1], -1)


def _q4_0(raw: Raw) -> _Affine:
    q = _fields(raw[..., 2:], 16, 4).view(np.int8) - np.int8(8)
    return _Affine(q=q, scale=_scalar(raw[..., :2]))


def _q4_1(raw: Raw) -> _Affine:
    q = _fields(raw[..., 4:], 16, 4).view(np.int8)
    return _Affine(q=q, scale=_scalar(raw[..., :2]), offset=_scalar(raw[..., 2:4]))


def _q5_0(raw: Raw) -> _Affine:
    return _Affine(q=_five_bits(raw[..., 2:]) - np.int8(16), scale=_scalar(raw[..., :2]))


def _q5_1(raw: Raw) -> _Affine:
    scale, offset = _scalar(raw[..., :2]), _scalar(raw[..., 2:4])
    return _Affine(q=_five_bits(raw[..., 4:]), scale=scale, offset=offset)


def _five_bits(raw: Raw) -> NDArray[np.int8]:
    """Join the fifth bits of 32 weights, 4 bytes, with their low nibbles, 16 bytes."""
    high = np.unpackbits(raw[..., :4], axis=-1, bitorder="little")
    return (_fields(raw[..., 4:], 16, 4) | high << np.uint8(4)).view(np.int8)


def _q8_0(raw: Raw) -> _Affine:
    return _Affine(q=raw[..., 2:].view(np.int8), scale=_scalar(raw[..., :2]))


def _q4_k(raw: Raw) -> _Affine:
    return _k_blocks(raw, _fields(raw[..., 16:], 32, 4))


def _q5_k(raw: Raw) -> _Affine:
    high = _fields(raw[..., 16:48], 32, 1)
    return _k_blocks(raw, _fields(raw[..., 48:], 32, 4) | high << np.uint8(4))


def _k_blocks(raw: Raw, q: Raw) -> _Affine:
    """Give 256 weights the scales and minima of their 8 sub-blocks.

    The header of a block: two float16 that multiply the 6-bit scales and minima, then 12 bytes with
    these. Scale and minimum i < 4 are the low six bits of bytes i and 4 + i; those of i >= 4 have
    their low nibbles in byte 4 + i and their high two bits on top of bytes i - 4 and i.
    """
    rows = len(raw)
    scale_of, minimum_of = _float16(raw[..., :2]), _float16(raw[..., 2:4])
    first, second, last = raw[..., 4:8], raw[..., 8:12], raw[..., 12:16]
    six = np.uint8(63)
    scales = np.concatenate([first & six, last & 15 | first >> 6 << 4], axis=-1)
    minima = np.concatenate([second & six, last >> 4 | second >> 6 << 4], axis=-1)
    return _Affine(
        q=q.view(np.int8).reshape(rows, -1, 32),
        scale=(scale_of * scales.astype(np.float32)).reshape(rows, -1),
        offset=-(minimum_of * minima.astype(np.float32)).reshape(rows, -1),
    )


def _q6_k(raw: Raw) -> _Affine:
    rows = len(raw)
    q = _fields(raw[..., :128], 64, 4) | _fields(raw[..., 128:192], 32, 2) << np.uint8(4)
    scales = raw[..., 192:208].view(np.int8).astype(np.float32)
    return _Affine(
        q=q.view(np.int8).reshape(rows, -1, 16) - np.int8(32),
        scale=(_float16(raw[..., 208:]) * scales).reshape(rows, -1),
    )


_FLOATS: dict[str, Callable[[Raw], F32]] = {
    "F32": lambda raw: np.ascontiguousarray(raw).view("<f4").astype(np.float32, copy=False),
    "F16": _float16,
    "BF16": _bfloat16,
}
_AFFINE: dict[str, Callable[[Raw], _Affine]] = {
    "Q4_0": _q4_0,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q8_0": _q8_0,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
_CARRIED = {
    "Q4_0": Blocks(bits=4, block=32),
    "Q4_1": Blocks(bits=4, block=32, has_offsets=True),
    "Q8_0": Blocks(bits=8, block=32),
}

"""Will a model fit into memory, and with how long a context? Arithmetic on plain values, no I/O.

Figures of the process itself were measured on x86-64; on ARM64 packed weights are somewhat smaller.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import Quantization

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.modelstore.card import Card, Precision
    from edge_agent.modelstore.manifest import Shape

_FLOAT_BYTES = 4
_FLOAT_BITS = 32
_NIBBLE_BITS = 4
# A float scale and a float sum beside the codes of each packed block.
_PACKED_BLOCK_BYTES = 8
_RAW_BLOCK_BYTES = 4
# Bytes of one K or V number; int8 scales are a few kilobytes in all.
_KV_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
KV_DTYPES = tuple(_KV_BYTES)

# The daemon and the engine with their libraries, before a model: 45 and 75 MB resident.
PROGRAM_BYTES = 120_000_000
# 200,064 entries keep about 65 MB once loaded: the library's tables, and ours of bytes.
TOKENIZER_BYTES_PER_ENTRY = 350
# Left to the rest of the machine: what its other programs grow by at their busiest.
RESERVE_BYTES = 256 << 20
# onnxruntime's own buffers and the heap's slack, beside the arrays that are counted.
SLACK_BYTES = 48 << 20
# Gateways have four cores, and each turns one head of an fp16 cache into floats at a time.
_CORES = 4
# Buffers of attention over an int8 cache grow with every chunk, and what was let go fits none of
# the later ones: so much more the library's arena had at worst, after prompts of growing length.
_INT8_WASTE_BYTES = 12 << 20
# Numbers of all heads that are floats at once, of one token of an int8 cache. Measured on
# Phi-4-mini's attention, 128 tokens after 8,192: all 8 heads at once take 1.10 of the time over a
# float cache, two 1.22, one 1.34, and the kernel for int8 caches 2.4. More than one would not leave
# room for a context of 32,768 in 2.6 GB.
_FLOATS_AT_ONCE = 192
# For each such number. 36 are alive at once: K and V, cut out, as floats, and once more with those
# of the chunk behind. The rest the library's arena wastes: 233 MB in all at 32,768 tokens.
_BYTES_PER_FLOAT_AT_ONCE = 60


class Verdict(StrEnum):
    """Whether a model fits."""

    FITS = "fits"
    REREAD = "fits, but its weights do not stay in memory and are read from disk again and again"
    TOO_LARGE = "does not fit"


class Line(Struct, frozen=True):
    """One line of the sum: what, how it comes about, how much."""

    what: str
    how: str
    num_bytes: int
    is_file: bool = False
    """Pages of a file: the system may drop and read them again."""


class Fit(Struct, frozen=True, kw_only=True):
    """The sum, and what follows from it."""

    lines: tuple[Line, ...]
    needed_bytes: int
    available_bytes: int
    """What may be used: free memory less the reserve."""
    verdict: Verdict
    longest_context: int
    """Tokens per slot at which everything fits; 0 if none does."""


def planned(card: Card, asked: Precision | None = None) -> tuple[Shape, Quantization]:
    """Return dimensions and storage of the package that will be made from `card`.

    What `asked` leaves open, the card says.

    Raises:
        ModelError: the card leaves them to the import.
    """
    said = msgspec.structs.asdict(card.precision)
    if asked is not None:
        said |= {k: v for k, v in msgspec.structs.asdict(asked).items() if v is not None}
    if card.shape is None or None in said.values():
        msg = f"the card of {card.name} does not tell its dimensions (shape) and whole precision"
        raise ModelError(msg)
    return card.shape, Quantization(**said, head_block=said["block"])


def kv_bytes_per_token(shape: Shape, kv_dtype: str) -> int:
    """Return the bytes that one token takes in the KV cache, K and V of all layers."""
    return 2 * shape.layers * shape.kv_heads * shape.head_dim * _KV_BYTES[kv_dtype]


def linear_weights(shape: Shape) -> int:
    """Return the number of weights in the products of all layers."""
    wide = shape.heads * shape.head_dim
    qkv = (wide + 2 * shape.kv_heads * shape.head_dim) * shape.hidden
    feed_forward = 3 * shape.intermediate * shape.hidden
    return shape.layers * (qkv + wide * shape.hidden + feed_forward)


def packed_bytes(shape: Shape, quantization: Quantization) -> int:
    """Return the bytes of all weights as onnxruntime multiplies them (head tied).

    Twice those of 4-bit weights that meet exact activations: steps of few rows and of many multiply
    them by different kernels, each of which packs them its own way.
    """
    parts = _weight_parts(shape, quantization, _PACKED_BLOCK_BYTES)
    is_exact = quantization.activations == "exact"
    return sum(2 * part if is_exact and bits == _NIBBLE_BITS else part for bits, part in parts)


def streamed_bytes(shape: Shape, quantization: Quantization) -> int:
    """Return the bytes of weights that a step reads: each weight once (head tied)."""
    return sum(part for _, part in _weight_parts(shape, quantization, _PACKED_BLOCK_BYTES))


def raw_bytes(shape: Shape, quantization: Quantization) -> int:
    """Return the bytes of `weights.bin` before it is packed for a device (head tied)."""
    return sum(part for _, part in _weight_parts(shape, quantization, _RAW_BLOCK_BYTES))


def fit(  # noqa: PLR0913  # the plain values that it depends on, each named
    shape: Shape,
    quantization: Quantization,
    *,
    free_bytes: int,
    is_prepared: bool,
    slots: int,
    context: int,
    longest_context: int,
    chunk_tokens: int,
    kv_dtype: str,
    prefix_bytes: int | None,
) -> Fit:
    """Return whether a model fits into `free_bytes` of memory, the other programs' part taken off.

    `context` tokens for each of `slots` slots; `longest_context` is the model's own limit.
    `prefix_bytes` may be kept of ended requests; None: as much as one slot can fill.
    """
    per_token = kv_bytes_per_token(shape, kv_dtype)
    packed = packed_bytes(shape, quantization)
    weights = Line("weights", _weights_how(quantization), packed, is_file=is_prepared)
    cache = Line(
        "KV cache",
        f"{per_token} B ({kv_dtype}) x {context} tokens x {slots} slots",
        per_token * context * slots,
    )
    kept = Line(
        "kept prefixes",
        "as much as one slot" if prefix_bytes is None else "as configured",
        per_token * context if prefix_bytes is None else prefix_bytes,
    )
    scores = attention_bytes(
        shape, kv_dtype, slots=slots, chunk_tokens=chunk_tokens, context_tokens=context
    )
    attention = Line("attention", f"beside a cache of {kv_dtype}, {context} tokens", scores)
    fixed = tuple(_fixed(shape, slots=slots, chunk_tokens=chunk_tokens))
    lines = (weights, *(line for line in (cache, kept, attention) if line.num_bytes), *fixed)
    available = max(0, free_bytes - RESERVE_BYTES)
    needed = sum(line.num_bytes for line in lines)
    # What a token more costs: in every slot, in the one more that is kept, and in attention.
    step = _attention_bytes_per_token(shape, kv_dtype, slots, chunk_tokens)
    step += per_token * (slots + (prefix_bytes is None))
    more = (available - needed) // step
    return Fit(
        lines=lines,
        needed_bytes=needed,
        available_bytes=available,
        verdict=_verdict(lines, available),
        longest_context=max(0, min(longest_context, context + more)),
    )


def attention_bytes(
    shape: Shape, kv_dtype: str, *, slots: int, chunk_tokens: int, context_tokens: int
) -> int:
    """Return what attention takes beside the cache while prompts of `context_tokens` are read.

    `slots` of them run at once. It grows with the context, and nothing over fp32.
    """
    per_token = _attention_bytes_per_token(shape, kv_dtype, slots, chunk_tokens)
    if not context_tokens or not per_token:
        return 0
    waste = _INT8_WASTE_BYTES if kv_dtype == "int8" else 0
    return per_token * (context_tokens + chunk_tokens) + waste


def heads_at_once(shape: Shape) -> int:
    """Return how many heads of an int8 cache are floats at a time, while a prompt is read."""
    fitting = max(1, _FLOATS_AT_ONCE // shape.head_dim)
    return max(n for n in range(1, shape.kv_heads + 1) if shape.kv_heads % n == 0 and n <= fitting)


def _attention_bytes_per_token(shape: Shape, kv_dtype: str, slots: int, chunk_tokens: int) -> int:
    """Return what attention takes for each token of the context, measured with onnxruntime 1.32.

    fp16: scores as floats, a chunk of all heads for each slot, in one block of which the library's
    arena comes to hold up to a slot's part more, in a second place; and heads of K or V as floats.
    int8: K and V of some heads as floats, for one slot at a time. fp32 needs nothing.
    """
    match kv_dtype:
        case "fp16":
            scores = (slots + 1) * shape.heads * chunk_tokens
            return _FLOAT_BYTES * (scores + _CORES * shape.head_dim)
        case "int8":
            return _BYTES_PER_FLOAT_AT_ONCE * heads_at_once(shape) * shape.head_dim
        case _:
            return 0


def _verdict(lines: tuple[Line, ...], available: int) -> Verdict:
    if sum(line.num_bytes for line in lines) <= available:
        return Verdict.FITS
    own = sum(line.num_bytes for line in lines if not line.is_file)
    return Verdict.REREAD if own <= available else Verdict.TOO_LARGE


def _fixed(shape: Shape, *, slots: int, chunk_tokens: int) -> Iterator[Line]:
    yield Line(
        "tokenizer",
        f"{shape.vocab} entries x {TOKENIZER_BYTES_PER_ENTRY} B",
        shape.vocab * TOKENIZER_BYTES_PER_ENTRY,
    )
    # The widest moment of a layer: gate and up, split, activated, multiplied.
    widest = shape.hidden * 3 + shape.intermediate * 5
    yield Line(
        "one step",
        f"{chunk_tokens} tokens x {widest} floats, {slots} rows of logits",
        _FLOAT_BYTES * (chunk_tokens * widest + slots * shape.vocab) + SLACK_BYTES,
    )
    yield Line("program", "daemon and engine", PROGRAM_BYTES)


def _weight_parts(
    shape: Shape, quantization: Quantization, block_bytes: int
) -> tuple[tuple[int, int], ...]:
    """Return bits and bytes of the weights of all layers, and of the head."""
    linears = _bytes(
        linear_weights(shape), quantization.bits, quantization.block, block_bytes=block_bytes
    )
    head = _bytes(
        shape.vocab * shape.hidden,
        quantization.head_bits,
        quantization.head_block,
        block_bytes=block_bytes,
    )
    return (quantization.bits, linears), (quantization.head_bits, head)


def _bytes(weights: int, bits: int, block: int, *, block_bytes: int) -> int:
    if bits == _FLOAT_BITS:
        return weights * _FLOAT_BYTES
    return weights * bits // 8 + weights // block * block_bytes


def _weights_how(quantization: Quantization) -> str:
    def kind(bits: int, block: int) -> str:
        return "floats" if bits == _FLOAT_BITS else f"{bits} bits in blocks of {block}"

    linears = kind(quantization.bits, quantization.block)
    head = kind(quantization.head_bits, quantization.head_block)
    return f"{linears}, head {head}, packed for this CPU"

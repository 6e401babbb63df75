"""Models of random weights: a real model's exact shape, so that its speed and memory can be known.

The blocks are made as they are read, by `source.Part`s like those of any door; nothing of a model's
size is ever in memory. What such a model says means nothing.

`python -m edge_agent.importers.noise CARD PACKAGE …` writes the package of such a model, from a
card that tells its dimensions, in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import EdgeError, ModelError
from edge_agent.importers import package
from edge_agent.importers.quantize import Packed
from edge_agent.importers.source import Blocks, Model, Part, Product
from edge_agent.modelstore.card import Card, Precision, read_card

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.importers.arrays import F32
    from edge_agent.modelstore.manifest import Rope, Shape

CHAT_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
# Standard deviation of codes drawn evenly from all that 4 or 8 bits can say.
_CODE_SPREAD = {4: 16 / 12**0.5, 8: 256 / 12**0.5}
# A vocabulary's longest words; real ones are longer, but few.
_WORD_CHARS = 12
# The greatest of keys and values that was seen, with Phi-4-mini's width: four bits have one more
# code below zero than above, which adds up.
_KV_SIZE = 14.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisePart:
    """Random blocks, the same for the same name and row, scaled to keep activations near one."""

    name: str
    rows: int
    columns: int
    blocks: Blocks

    def floats(self, start: int, stop: int) -> F32:
        """Return rows [start, stop) as float32."""
        return self.packed(start, stop).floats()

    def packed(self, start: int, stop: int) -> Packed:
        """Return rows [start, stop)."""
        bits, block = self.blocks.bits, self.blocks.block
        num_blocks, blob = self.columns // block, block * bits // 8
        # Philox and SFC64 fill at more than 1 GB/s; the seed makes a slab the same each time.
        noise = np.random.Generator(np.random.SFC64([start, *self.name.encode()]))
        raw = np.frombuffer(noise.bytes((stop - start) * num_blocks * blob), np.uint8)
        scale = 1 / (_CODE_SPREAD[bits] * self.columns**0.5)
        return Packed(
            bits=bits,
            values=raw.reshape(stop - start, num_blocks, blob),
            scales=np.full((stop - start, num_blocks), scale, np.float32),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ones:
    """The weight of a norm that changes nothing."""

    name: str
    columns: int
    rows: int = 1
    blocks: None = None

    def floats(self, start: int, stop: int) -> F32:
        return np.ones((stop - start, self.columns), np.float32)

    def packed(self, start: int, stop: int) -> Packed:  # noqa: ARG002  # as the protocol says
        msg = f"{self.name} has no blocks"
        raise TypeError(msg)


def noise_model(
    shape: Shape, rope: Rope, *, context: int, linears: Blocks, head: Blocks, is_tied: bool
) -> Model:
    """Return a model of `shape` whose linears and head have blocks as asked for."""
    return Model(
        shape=shape,
        rope=rope,
        context=context,
        products=tuple(_products(shape, linears, head, is_tied=is_tied)),
        norms=dict(_norms(shape)),
        tokenizer=tokenizer(shape.vocab),
        chat_template=CHAT_TEMPLATE,
        stop_token_ids=(shape.vocab - 1,),
    )


def tokenizer(vocab: int) -> bytes:
    """Return a byte-level BPE `tokenizer.json` of `vocab` made-up words, as large as a real one."""
    # The byte alphabet of GPT-2: printable characters stand for themselves, others from U+0100 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    words = [chr(code) for code in (*printable, *range(256, 256 + 256 - len(printable)))]
    known = set(words)
    merges: list[tuple[str, str]] = []
    draw = np.random.Generator(np.random.SFC64(vocab))
    while len(words) < vocab:
        # Pairs of what exists, as merges come about; the early, short words are in most of them.
        left, right = (words[int(len(words) * share**2)] for share in draw.random(2))
        if len(left) + len(right) <= _WORD_CHARS and left + right not in known:
            known.add(left + right)
            words.append(left + right)
            merges.append((left, right))
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    content: dict[str, object] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words)},
            "merges": merges,
        },
    }
    return json.dumps(content).encode()


def _products(shape: Shape, linears: Blocks, head: Blocks, *, is_tied: bool) -> Iterator[Product]:
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    yield _product("embedding", shape.vocab, hidden, head)
    for layer in range(shape.layers):
        name = f"layers.{layer}"
        yield _product(f"{name}.qkv", wide + 2 * shape.kv_heads * shape.head_dim, hidden, linears)
        yield _product(f"{name}.o", hidden, wide, linears)
        yield _product(f"{name}.gate_up", 2 * shape.intermediate, hidden, linears)
        yield _product(f"{name}.down", hidden, shape.intermediate, linears)
    if not is_tied:
        yield _product("head", shape.vocab, hidden, head)


def _product(name: str, rows: int, columns: int, blocks: Blocks) -> Product:
    part = NoisePart(name=name, rows=rows, columns=columns, blocks=blocks)
    return Product(name=name, parts=(part,))


def _norms(shape: Shape) -> Iterator[tuple[str, Part]]:
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            name = f"layers.{layer}.{norm}"
            yield name, _Ones(name=name, columns=shape.hidden)
    yield "norm", _Ones(name="norm", columns=shape.hidden)


def write_package(card: Card, linears: Blocks, head: Blocks, path: Path, *, name: str) -> None:
    """Write the package of a random model with the dimensions of `card` to the directory `path`.

    Raises:
        ModelError: the card does not tell its dimensions, or blocks do not divide them.
        OSError: disk full or the like.
    """
    if card.shape is None or card.rope is None or card.context is None:
        msg = f"the card of {card.name} does not tell its dimensions (shape, rope, context)"
        raise ModelError(msg)
    model = noise_model(
        card.shape, card.rope, context=card.context, linears=linears, head=head, is_tied=True
    )
    label = package.Label(
        name=name, family=card.family, licence="none", origin=f"random, as large as {card.name}"
    )
    asked = Precision(activations=card.precision.activations)
    sizes = (card.shape.layers, 2, card.shape.kv_heads, card.shape.head_dim)
    kv_sizes = np.full(sizes, _KV_SIZE, np.float32)
    package.write(model, label, asked, path, text=None, kv_sizes=kv_sizes)


def main(argv: list[str]) -> int:
    """Write a package as the command line says and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m edge_agent.importers.noise")
    parser.add_argument("card", type=Path, help="card that tells the dimensions")
    parser.add_argument("package", type=Path, help="directory to write; must not exist")
    parser.add_argument("--name", required=True, help="name of the package")
    parser.add_argument("--bits", type=int, choices=(4, 8), required=True)
    parser.add_argument("--block", type=int, choices=(32, 64, 128), required=True)
    parser.add_argument("--head-bits", type=int, choices=(4, 8), required=True)
    args = parser.parse_args(argv)
    linears = Blocks(bits=args.bits, block=args.block)
    head = Blocks(bits=args.head_bits, block=args.block)
    try:
        write_package(read_card(args.card), linears, head, args.package, name=args.name)
    except (EdgeError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

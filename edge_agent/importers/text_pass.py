"""Carries a text through the float model while the import reads it, product by product.

It tells how much each column of a weight matters, by the mean square of the numbers that it is
multiplied with, and how large keys and values become. What goes into a product is known before its
rows are, so every weight is still read only once. Plain numpy, because here the weights pass by and
an engine would want them all.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.rope import rope_tables
from edge_agent.errors import ModelError
from edge_agent.importers.calibration import prompt, sizes
from edge_agent.importers.precision import TOKEN_PRODUCTS
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edge_agent.importers.arrays import F32
    from edge_agent.importers.source import Model, Product

# Perplexity of SmolLM2 in 4 bits over that of its floats: 1.23 where all weights matter alike, 1.12
# with 64 or 128 tokens, 1.11 with 256 or 512. Each costs as much as a token that is generated.
TEXT_TOKENS = 256
# Room for these in any language; what is behind that is not read.
MAX_TEXT_BYTES = 1 << 16


class TextPass:
    """A text on its way through `model`, whose products come in the order of the decoder.

    An embedding that is the head too comes last, as the head; one that is not, whenever it likes.
    """

    kv_sizes: F32
    """The greatest size of each channel of K and V in the layers that were passed, float32
    [layers, 2, kv_heads, head_dim]; see `calibration.sizes`."""
    problem: str | None = None
    """Why the text got no further; from then on no column has an importance."""

    def __init__(self, model: Model, ids: Sequence[int]) -> None:
        """Take as many of the tokens `ids` of a text as are of use.

        Raises:
            ModelError: too few, a token that the model does not have, or weights that are infinity
                or NaN.
        """
        self._shape = model.shape
        self._is_tied = all(product.name != "head" for product in model.products)
        self._norms = {name: part.floats(0, 1)[0] for name, part in model.norms.items()}
        tokens = min(TEXT_TOKENS, model.rope.original_context)
        used = ids[:tokens]
        if len(used) < tokens or max(used) >= model.shape.vocab:
            msg = f"a text of {len(ids)} tokens: {tokens} or more of the model's are needed"
            raise ModelError(msg)
        # The short rows, which come first and have the attention factor in them.
        tables = rope_tables(model.rope, capacity=tokens)
        self._cos, self._sin = tables.cos[:, np.newaxis], tables.sin[:, np.newaxis]
        self._hidden = _embedded(model, used)
        self._input = self._normed("layers.0.attn_norm")
        self._output = self._input[:0]
        shape = model.shape
        self.kv_sizes = np.zeros((shape.layers, 2, shape.kv_heads, shape.head_dim), np.float32)

    def begin(self, product: Product) -> F32 | None:
        """Return the importance of the columns of `product`, whose turn it is: float32 [columns].

        None where rows are looked up and not multiplied, or the text got no further.
        """
        if self.problem:
            return None
        if product.name in TOKEN_PRODUCTS:
            is_head = self._is_tied or product.name == "head"
            return self._mean_squares() if is_head else None
        self._output = np.empty((len(self._input), product.rows), np.float32)
        return self._mean_squares()

    def meet(self, weights: F32, row: int) -> None:
        """Multiply with rows [row, …) of a layer's product, float32 [rows, columns]."""
        if self.problem:
            return
        with np.errstate(over="ignore", invalid="ignore"):  # is found out at the end
            np.matmul(self._input, weights.T, out=self._output[:, row : row + len(weights)])

    def end(self, product: Product) -> None:
        """Go on from `product` of a layer to what the next is multiplied with.

        Where the numbers have grown beyond float32, that is the `problem`.
        """
        if self.problem:
            return
        _, layer, kind = product.name.split(".")
        with np.errstate(over="ignore", invalid="ignore"):
            if kind == "qkv":
                query, key, value = self._heads()
                self.kv_sizes[int(layer)] = sizes(key, value, rotated=2 * self._cos.shape[-1])
                self._input = self._attended(query, key, value)
            elif kind == "o":
                self._input = self._added(f"layers.{layer}.ffn_norm")
            elif kind == "gate_up":
                gate, up = np.split(self._output, 2, axis=1)
                self._input = gate / (1 + np.exp(-gate)) * up
            else:
                is_last = int(layer) + 1 == self._shape.layers
                self._input = self._added(
                    "norm" if is_last else f"layers.{int(layer) + 1}.attn_norm"
                )
            # Importance and norms are made of squares.
            made = (self._mean_squares(), np.square(self._hidden).mean(axis=1), self.kv_sizes)
        if not all(np.isfinite(numbers).all() for numbers in made):
            self.problem = f"{product.name}: activations of the text are beyond float32"

    def _mean_squares(self) -> F32:
        means: F32 = np.square(self._input).mean(axis=0)
        return means

    def _added(self, norm: str) -> F32:
        self._hidden = self._hidden + self._output
        return self._normed(norm)

    def _normed(self, norm: str) -> F32:
        mean = np.square(self._hidden).mean(axis=1, keepdims=True)
        root = np.sqrt(mean + np.float32(self._shape.norm_eps))
        normed: F32 = self._hidden / root * self._norms[norm]
        return normed

    def _heads(self) -> tuple[F32, F32, F32]:
        """Return q, k and v, which came out, q and k rotated, each [tokens, heads, head_dim]."""
        shape = self._shape
        heads = self._output.reshape(len(self._output), -1, shape.head_dim)
        query, key, value = np.split(heads, [shape.heads, shape.heads + shape.kv_heads], axis=1)
        return self._turned(query), self._turned(key), value

    def _attended(self, query: F32, key: F32, value: F32) -> F32:
        """Return the attention of what `_heads` returns, [tokens, heads * head_dim]."""
        shape, tokens = self._shape, len(query)
        group = shape.heads // shape.kv_heads
        query = query.reshape(tokens, shape.kv_heads, group, shape.head_dim)
        scores = np.einsum("qkgd,tkd->kgqt", query, key, optimize=True)
        scores *= np.float32(shape.head_dim**-0.5)
        scores[..., np.triu(np.ones((tokens, tokens), np.bool_), 1)] = -np.inf
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed: F32 = np.einsum("kgqt,tkd->qkgd", scores, value, optimize=True)
        return mixed.reshape(tokens, -1)

    def _turned(self, heads: F32) -> F32:
        """Rotate dim i of [tokens, heads, head_dim] with dim i + half; the rest stays as it is."""
        half, cos, sin = self._cos.shape[-1], self._cos, self._sin
        first, second, rest = np.split(heads, [half, 2 * half], axis=2)
        return np.concatenate([first * cos - second * sin, first * sin + second * cos, rest], 2)


def text_pass(model: Model, text: Path) -> TextPass:
    """Return the pass through `model` of the UTF-8 text in the file `text`, as a user's message.

    Raises:
        NoPlace: the chat template has no place for it.
        ModelError: the file cannot be read, is no text or too short, or as `TextPass`.
    """
    try:
        with text.open("rb") as file:
            start = file.read(MAX_TEXT_BYTES)
        # Cut anywhere, it may end within a character.
        content = codecs.getincrementaldecoder("utf-8")().decode(start)
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"{text}: {exc}"
        raise ModelError(msg) from exc
    template = ChatTemplate(model.chat_template, Tokenizer(model.tokenizer))
    ids = prompt(content, template)
    try:
        return TextPass(model, ids)
    except ModelError as exc:
        msg = f"{text}: {exc}"
        raise ModelError(msg) from exc


def _embedded(model: Model, ids: Sequence[int]) -> F32:
    """Return the rows `ids` of the embedding, float32 [ids, hidden]."""
    embedding = next(product for product in model.products if product.name == "embedding")
    rows = np.empty((len(ids), model.shape.hidden), np.float32)
    for place, number in enumerate(ids):
        first = 0
        for part in embedding.parts:
            if first <= number < first + part.rows:
                rows[place] = part.floats(number - first, number - first + 1)[0]
            first += part.rows
    return rows

"""Models of two small layers with random weights, as GGUF files written by the `gguf` package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_door import open_gguf

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.importers.source import Model


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Dimensions of a tiny model; `rotated` of the dims of a head are."""

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    rotated: int
    intermediate: int


LAYERS = 2
SIZES = {
    "llama": Sizes(hidden=64, heads=4, kv_heads=2, head_dim=16, rotated=16, intermediate=96),
    # Rows of whole blocks of every type, and rotated dims that the attention kernel can do.
    "phi3": Sizes(hidden=256, heads=4, kv_heads=2, head_dim=64, rotated=48, intermediate=256),
}
CONTEXT = 64
ORIGINAL_CONTEXT = 32
ATTENTION_FACTOR = 1.190238
THETA = 10_000.0
NORM_EPS = 1e-5
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w")

# Where blocks that the package cannot quantize have their float16 scales, and what to put there.
_SCALES = {
    "Q4_K": ((0, 0.0005), (2, 0.0005)),
    "Q5_K": ((0, 0.0002), (2, 0.0002)),
    "Q6_K": ((208, 0.0001),),
}


@dataclass(kw_only=True)
class TinyModel:
    """What to write; `kinds` says how tensors are stored whose name holds the key."""

    architecture: str = "llama"
    kinds: dict[str, str] = field(default_factory=lambda: {"token_embd": "Q8_0", "": "Q4_1"})
    seed: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    """Changes; what is None is left out."""
    omit: tuple[str, ...] = ()
    more: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def write(self, path: Path) -> dict[str, NDArray[np.float32]]:
        """Write the file; return the weights as floats, as they are after storing."""
        writer = gguf.GGUFWriter(path, self.architecture)
        _write_facts(writer, {**_facts(self.architecture), **self.metadata})
        weights = random_weights(self.seed, self.architecture)
        stored = {}
        for name, floats in {**weights, **self.more}.items():
            if name not in self.omit:
                stored[name] = self._add(writer, name, floats)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return stored

    def _add(
        self, writer: gguf.GGUFWriter, name: str, floats: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        kind = next(kind for key, kind in self.kinds.items() if key in name)
        if floats.ndim == 1:
            kind = "F32"
        number = gguf.GGMLQuantizationType[kind]
        if kind in _SCALES:
            raw = _random_blocks(number, floats.shape, self.seed)
        else:
            raw = gguf.quants.quantize(floats, number)
        writer.add_tensor(name, raw, raw_dtype=number)
        return gguf.quants.dequantize(raw, number).astype(np.float32)


def rows_of(model: Model, name: str) -> NDArray[np.float32]:
    """Return all rows of a product of an open model as floats."""
    product = next(product for product in model.products if product.name == name)
    return np.concatenate([part.floats(0, part.rows) for part in product.parts])


def refusal(metadata: dict[str, Any], directory: Path) -> str:
    """Return why a tiny model with `metadata` is refused; the sentence begins with its file."""
    path = directory / "tiny.gguf"
    TinyModel(metadata=metadata).write(path)
    with pytest.raises(ModelError, match=r"^tiny\.gguf: ") as caught, open_gguf(path):
        pass
    return str(caught.value)


def vocabulary() -> list[str]:
    """Return control tokens, the 256 bytes as byte-level BPE writes them, and what merges make."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + number) for number in range(len(others))]
    return [*CONTROL, *characters, *(merge.replace(" ", "") for merge in MERGES)]


def random_weights(seed: int, architecture: str = "llama") -> dict[str, NDArray[np.float32]]:
    """Return all tensors by their GGUF name; a llama's q and k as the file pairs their rows."""
    rng = np.random.default_rng(seed)
    sizes = SIZES[architecture]

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.2, (rows, columns)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return rng.uniform(0.5, 1.5, sizes.hidden).astype(np.float32)

    tensors = {
        "token_embd.weight": matrix(len(vocabulary()), sizes.hidden),
        "output_norm.weight": norm(),
    }
    wide, narrow = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    for layer in range(LAYERS):
        block = {"attn_norm": norm()}
        if architecture == "phi3":
            block["attn_qkv"] = matrix(wide + 2 * narrow, sizes.hidden)
        else:
            block["attn_q"] = matrix(wide, sizes.hidden)
            block["attn_k"] = matrix(narrow, sizes.hidden)
            block["attn_v"] = matrix(narrow, sizes.hidden)
        block["attn_output"] = matrix(sizes.hidden, wide)
        block["ffn_norm"] = norm()
        if architecture == "phi3":
            block["ffn_up"] = matrix(2 * sizes.intermediate, sizes.hidden)
        else:
            block["ffn_gate"] = matrix(sizes.intermediate, sizes.hidden)
            block["ffn_up"] = matrix(sizes.intermediate, sizes.hidden)
        block["ffn_down"] = matrix(sizes.hidden, sizes.intermediate)
        tensors |= {f"blk.{layer}.{name}.weight": array for name, array in block.items()}
    if architecture == "phi3":
        frequencies = sizes.rotated // 2
        tensors["rope_factors_short.weight"] = np.linspace(1, 1.5, frequencies, dtype=np.float32)
        tensors["rope_factors_long.weight"] = np.linspace(1, 40, frequencies, dtype=np.float32)
    return tensors


def _random_blocks(
    kind: gguf.GGMLQuantizationType, shape: tuple[int, ...], seed: int
) -> NDArray[np.uint8]:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, columns = shape
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, columns // block, block_bytes), np.uint8)
    for place, scale in _SCALES[kind.name]:
        raw[..., place : place + 2] = np.array([scale], np.float16).view(np.uint8)
    return raw.reshape(rows, -1)


def _facts(architecture: str) -> dict[str, Any]:
    sizes = SIZES[architecture]
    facts: dict[str, Any] = {
        "block_count": LAYERS,
        "context_length": CONTEXT,
        "embedding_length": sizes.hidden,
        "feed_forward_length": sizes.intermediate,
        "attention.head_count": sizes.heads,
        "attention.head_count_kv": sizes.kv_heads,
        "rope.dimension_count": sizes.rotated,
        "rope.freq_base": THETA,
        "attention.layer_norm_rms_epsilon": NORM_EPS,
    }
    if architecture == "phi3":
        facts |= {
            "attention.sliding_window": 262_144,
            "rope.scaling.original_context_length": ORIGINAL_CONTEXT,
            "rope.scaling.attn_factor": ATTENTION_FACTOR,
        }
    return {f"{architecture}.{key}": value for key, value in facts.items()} | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-4o" if architecture == "phi3" else "smollm",
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [3 if token in CONTROL else 1 for token in vocabulary()],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def _write_facts(writer: gguf.GGUFWriter, facts: dict[str, Any]) -> None:
    for key, value in facts.items():
        match value:
            case None:
                pass
            case bool():
                writer.add_bool(key, value)
            case str():
                writer.add_string(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case _:
                writer.add_array(key, value)

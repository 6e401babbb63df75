"""A llama of two small layers with random weights, as a GGUF file written by the `gguf` package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE = 2, 64, 4, 2, 16, 96
CONTEXT = 64
THETA = 10_000.0
NORM_EPS = 1e-5
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w")


@dataclass(kw_only=True)
class TinyModel:
    """What to write; `kinds` says how tensors are stored whose name holds the key."""

    kinds: dict[str, str] = field(default_factory=lambda: {"token_embd": "Q8_0", "": "Q4_1"})
    seed: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)
    omit: tuple[str, ...] = ()
    more: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def write(self, path: Path) -> dict[str, NDArray[np.float32]]:
        """Write the file; return the weights as floats, as they are after storing."""
        writer = gguf.GGUFWriter(path, "llama")
        _write_facts(writer, self.metadata)
        stored = {}
        for name, floats in {**random_weights(self.seed), **self.more}.items():
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
        raw = gguf.quants.quantize(floats, number)
        writer.add_tensor(name, raw, raw_dtype=number)
        return gguf.quants.dequantize(raw, number).astype(np.float32)


def vocabulary() -> list[str]:
    """Return control tokens, the 256 bytes as byte-level BPE writes them, and what merges make."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + number) for number in range(len(others))]
    return [*CONTROL, *characters, *(merge.replace(" ", "") for merge in MERGES)]


def random_weights(seed: int) -> dict[str, NDArray[np.float32]]:
    """Return all tensors by their GGUF name; q and k as the file pairs them."""
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> NDArray[np.float32]:
        return rng.normal(0, 0.2, (rows, columns)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return rng.uniform(0.5, 1.5, HIDDEN).astype(np.float32)

    tensors = {"token_embd.weight": matrix(len(vocabulary()), HIDDEN), "output_norm.weight": norm()}
    for layer in range(LAYERS):
        block = {
            "attn_norm": norm(),
            "attn_q": matrix(HEADS * HEAD_DIM, HIDDEN),
            "attn_k": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_v": matrix(KV_HEADS * HEAD_DIM, HIDDEN),
            "attn_output": matrix(HIDDEN, HEADS * HEAD_DIM),
            "ffn_norm": norm(),
            "ffn_gate": matrix(INTERMEDIATE, HIDDEN),
            "ffn_up": matrix(INTERMEDIATE, HIDDEN),
            "ffn_down": matrix(HIDDEN, INTERMEDIATE),
        }
        tensors |= {f"blk.{layer}.{name}.weight": array for name, array in block.items()}
    return tensors


def _write_facts(writer: gguf.GGUFWriter, changes: dict[str, Any]) -> None:
    facts: dict[str, Any] = {
        "llama.block_count": LAYERS,
        "llama.context_length": CONTEXT,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": INTERMEDIATE,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.dimension_count": HEAD_DIM,
        "llama.rope.freq_base": THETA,
        "llama.attention.layer_norm_rms_epsilon": NORM_EPS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": vocabulary(),
        "tokenizer.ggml.token_type": [3 if token in CONTROL else 1 for token in vocabulary()],
        "tokenizer.ggml.merges": list(MERGES),
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
        **changes,
    }
    for key, value in facts.items():
        match value:
            case str():
                writer.add_string(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case _:
                writer.add_array(key, value)

"""Small random Phi-3 and Llama checkpoints as Hugging Face directories, the same for a seed.

Every weight is a step of four bits in blocks of 32 columns, `scale * q` with q in -8..7, where each
block reaches -8: bf16 and every block format hold such weights exactly, and rounding them to 4 bits
changes nothing. So whatever way the weights take, the model says the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import TensorSpec, serialize_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

F32 = NDArray[np.float32]

LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 2, 128, 2, 1, 64, 256, 320
NORM_EPS = 1e-5
THETA = 10_000.0
CONTEXT, ORIGINAL_CONTEXT = 512, 64
ROTATED = 0.75
PAIRS = int(HEAD_DIM * ROTATED) // 2
SHORT_FACTORS = [1 + pair / 64 for pair in range(PAIRS)]
LONG_FACTORS = [1 + pair * pair / 8 for pair in range(PAIRS)]
BLOCK = 32

MERGES = (("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w"))
# Ids from 261 to 299 and from 305 on have no token, as the real vocabularies have holes.
CONTROL = {
    "<|endoftext|>": 300,
    "<|assistant|>": 301,
    "<|end|>": 302,
    "<|user|>": 303,
    "<|system|>": 304,
}
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)


@dataclass(kw_only=True)
class TinyHf:
    """What to write. The default is a bf16 Phi-3 as Microsoft publishes it, seed 7."""

    family: Literal["phi3", "llama"] = "phi3"
    seed: int = 7
    dtype: Literal["BF16", "F16", "F32"] = "BF16"
    shards: int = 0
    """Files besides an index; 0: one file and no index."""
    is_tied: bool = True
    spelling: Literal["old", "new"] = "old"
    """How `config.json` states rotation: as up to transformers 4, or as from 5 on."""
    config: dict[str, Any] = field(default_factory=dict)
    """Fields of `config.json` to change; None takes one away."""
    omit: tuple[str, ...] = ()
    more: dict[str, F32] = field(default_factory=dict)
    """Tensors to add or to replace."""

    def write(self, directory: Path) -> dict[str, F32]:
        """Write the files into the existing `directory`; return the weights as they are stored."""
        weights = {**random_weights(self.family, self.seed, is_tied=self.is_tied), **self.more}
        weights = {name: array for name, array in weights.items() if name not in self.omit}
        stored = {name: _stored(array, self.dtype) for name, array in weights.items()}
        self._write_weights(directory, stored)
        fields = {**_facts(self.family, is_tied=self.is_tied), **_rope(self.family, self.spelling)}
        fields = {
            name: value for name, value in {**fields, **self.config}.items() if value is not None
        }
        _write_json(directory / "config.json", fields)
        _write_json(directory / "generation_config.json", {"eos_token_id": [302, 300]})
        tokens = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
        template = {"chat_template": TEMPLATE} if self.spelling == "old" else {}
        _write_json(directory / "tokenizer_config.json", tokens | template)
        if self.spelling == "new":
            (directory / "chat_template.jinja").write_text(TEMPLATE)
        _write_json(directory / "tokenizer.json", tokenizer())
        return {name: _floats(array) for name, array in stored.items()}

    def _write_weights(self, directory: Path, stored: Mapping[str, NDArray[Any]]) -> None:
        if not self.shards:
            _write_tensors(directory / "model.safetensors", stored)
            return
        shard_of: dict[str, str] = {}
        for shard in range(self.shards):
            file = f"model-{shard + 1:05}-of-{self.shards:05}.safetensors"
            names = list(stored)[shard :: self.shards]
            _write_tensors(directory / file, {name: stored[name] for name in names})
            shard_of |= dict.fromkeys(names, file)
        total = sum(array.nbytes for array in stored.values())
        index = {"metadata": {"total_size": total}, "weight_map": shard_of}
        _write_json(directory / "model.safetensors.index.json", index)


def random_weights(family: str, seed: int, *, is_tied: bool = True) -> dict[str, F32]:
    """Return all tensors by their Hugging Face name."""
    rng = np.random.default_rng(seed)
    wide, narrow = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    tensors = {"model.embed_tokens.weight": on_grid(rng, VOCAB, HIDDEN)}
    for layer in range(LAYERS):
        block = f"model.layers.{layer}"
        tensors[f"{block}.input_layernorm.weight"] = _norm(rng)
        qkv = on_grid(rng, wide + 2 * narrow, HIDDEN)
        tensors |= _split(f"{block}.self_attn", "qkv_proj", family, qkv, [wide, narrow, narrow])
        tensors[f"{block}.self_attn.o_proj.weight"] = on_grid(rng, HIDDEN, wide)
        tensors[f"{block}.post_attention_layernorm.weight"] = _norm(rng)
        gate_up = on_grid(rng, 2 * INTERMEDIATE, HIDDEN)
        tensors |= _split(f"{block}.mlp", "gate_up_proj", family, gate_up, [INTERMEDIATE] * 2)
        tensors[f"{block}.mlp.down_proj.weight"] = on_grid(rng, HIDDEN, INTERMEDIATE)
    tensors["model.norm.weight"] = _norm(rng)
    if not is_tied:
        tensors["lm_head.weight"] = on_grid(rng, VOCAB, HIDDEN)
    return tensors


def on_grid(rng: np.random.Generator, rows: int, columns: int) -> F32:
    """Return random weights [rows, columns] that 4-bit blocks hold exactly.

    From uniform numbers only: their stream has never changed between releases of numpy.
    """
    uniform = rng.random((rows, columns // BLOCK, BLOCK))
    steps = np.floor(uniform * 15) - 7
    np.put_along_axis(steps, uniform.argmin(axis=-1, keepdims=True), -8, axis=-1)
    scales = (4 + np.floor(rng.random((rows, columns // BLOCK, 1)) * 4)) / 256
    signs = np.where(rng.random((rows, columns // BLOCK, 1)) < 0.5, -1, 1)
    return (steps * scales * signs).reshape(rows, columns).astype(np.float32)


def tokenizer() -> dict[str, Any]:
    """Return the content of a byte-level BPE `tokenizer.json`: 256 bytes, few merges, holes."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + number) for number in range(256 - len(printable))]
    vocabulary = {
        token: number
        for number, token in enumerate([*characters, *("".join(pair) for pair in MERGES)])
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(token, number) for token, number in CONTROL.items()],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "trim_offsets": True},
        "post_processor": {**byte_level, "trim_offsets": False},
        "decoder": {**byte_level, "trim_offsets": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # Control tokens too, or the library would number them anew: their ids have holes.
            "vocab": vocabulary | CONTROL,
            "merges": [" ".join(pair) for pair in MERGES],
        },
    }


def _added(token: str, number: int) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, **flags, "special": True}


def _norm(rng: np.random.Generator) -> F32:
    return ((32 + np.floor(rng.random(HIDDEN) * 65)) / 64).astype(np.float32)


def _split(
    stem: str, fused: str, family: str, weights: F32, rows: Sequence[int]
) -> Iterator[tuple[str, F32]]:
    """Yield `weights` under one name, or, as Llama stores them, under the names of its parts."""
    if family == "phi3":
        yield f"{stem}.{fused}.weight", weights
        return
    sides = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
    parts = np.split(weights, np.cumsum(rows)[:-1])
    for side, part in zip(sides[fused], parts, strict=True):
        yield f"{stem}.{side}.weight", part


def _facts(family: str, *, is_tied: bool) -> dict[str, Any]:
    architecture = {"phi3": "Phi3ForCausalLM", "llama": "LlamaForCausalLM"}[family]
    return {
        "architectures": [architecture],
        "model_type": family,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 300,
        "eos_token_id": 300,
        "pad_token_id": 300,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": CONTEXT,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "num_key_value_heads": KV_HEADS,
        "rms_norm_eps": NORM_EPS,
        "sliding_window": 2 * CONTEXT if family == "phi3" else None,
        "tie_word_embeddings": is_tied,
        "torch_dtype": "bfloat16",
        "vocab_size": VOCAB,
    }


def _rope(family: str, spelling: str) -> dict[str, Any]:
    if family == "llama":
        if spelling == "old":
            return {"rope_theta": THETA, "rope_scaling": None}
        return {"rope_parameters": {"rope_theta": THETA, "rope_type": "default"}}
    factors = {"long_factor": LONG_FACTORS, "short_factor": SHORT_FACTORS}
    beside = {
        "original_max_position_embeddings": ORIGINAL_CONTEXT,
        "partial_rotary_factor": ROTATED,
        "rope_theta": THETA,
    }
    if spelling == "old":
        return beside | {"rope_scaling": {"type": "longrope", **factors}}
    # transformers 5 repeats two of them beside it.
    nested = {**factors, **beside, "rope_type": "longrope", "type": "longrope"}
    del beside["rope_theta"]
    return beside | {"rope_parameters": nested}


def _stored(array: F32, dtype: str) -> NDArray[Any]:
    """Return `array` as it is stored; bf16 as the upper halves of floats, uint16."""
    if dtype != "BF16":
        return array.astype({"F16": np.float16, "F32": np.float32}[dtype])
    bits = array.view(np.uint32).astype(np.uint64)
    # To the nearest, ties to even; what is not a number stays that.
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.where(np.isfinite(array), rounded, bits >> 16).astype(np.uint16)


def _floats(stored: NDArray[Any]) -> F32:
    if stored.dtype == np.uint16:
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def _write_tensors(path: Path, stored: Mapping[str, NDArray[Any]]) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in stored.items()}
    specs = {
        name: TensorSpec(
            dtype="bfloat16" if array.dtype == np.uint16 else array.dtype.name,
            shape=list(array.shape),
            data_ptr=array.ctypes.data,
            data_len=array.nbytes,
        )
        for name, array in arrays.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False))

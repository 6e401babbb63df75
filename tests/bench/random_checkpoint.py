"""Writes a Phi-3 checkpoint of random bf16 weights, at the dimensions of a card.

`PYTHONPATH=. python tests/bench/random_checkpoint.py DIRECTORY [CARD]` writes Phi-4-mini's 7.7 GB
into the new directory, in two shards as the real one, with its real tokenizer. What such a model
says means nothing; what its import costs is what the real one's costs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.modelstore.card import read_card
from edge_agent.modelstore.catalog import shipped_cards
from tests.text import o200k

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edge_agent.modelstore.manifest import Rope, Shape

NAME = "phi-4-mini-instruct"
SHARDS = 2
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}"
    "{% endfor %}{{ '<|assistant|>' }}"
)
# Odd, so that no two tensors begin at the same place of the noise.
_NOISE_WEIGHTS = (32 << 20) + 1


def write(directory: Path, card: Path) -> int:
    """Write the checkpoint into the new `directory`; return the bytes of its weights.

    Raises:
        ValueError: the card does not tell the model's dimensions.
    """
    facts = read_card(card)
    if facts.shape is None or facts.rope is None or facts.context is None:
        msg = f"{card} does not tell dimensions, rotation and context"
        raise ValueError(msg)
    directory.mkdir()
    (directory / "tokenizer.json").write_bytes(o200k.path().read_bytes())
    words = {"eos_token": "<|endoftext|>", "chat_template": TEMPLATE}
    (directory / "tokenizer_config.json").write_text(json.dumps(words))
    config = _config(facts.shape, facts.rope, facts.context)
    (directory / "config.json").write_text(json.dumps(config))
    return _write_shards(directory, list(_tensors(facts.shape)))


def _write_shards(directory: Path, tensors: list[tuple[str, tuple[int, ...]]]) -> int:
    noise = np.random.default_rng(1).normal(0, 0.02, _NOISE_WEIGHTS).astype(np.float32)
    pool = memoryview((noise.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    shard_of: dict[str, str] = {}
    written = 0
    per_shard = -(-len(tensors) // SHARDS)
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        held = tensors[shard * per_shard :][:per_shard]
        header, num_bytes = _header(held)
        with (directory / name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            for start in range(0, num_bytes, len(pool)):
                file.write(pool[: num_bytes - start])
        shard_of |= dict.fromkeys((tensor for tensor, _ in held), name)
        written += num_bytes
    index = {"metadata": {"total_size": written}, "weight_map": shard_of}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return written


def _header(tensors: list[tuple[str, tuple[int, ...]]]) -> tuple[bytes, int]:
    entries, end = {}, 0
    for name, shape in tensors:
        begin, end = end, end + 2 * int(np.prod(shape, dtype=np.int64))
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    return json.dumps(entries).encode(), end


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide = shape.hidden, shape.heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab, hidden)
    for layer in range(shape.layers):
        block = f"model.layers.{layer}"
        yield f"{block}.input_layernorm.weight", (hidden,)
        rows = wide + 2 * shape.kv_heads * shape.head_dim
        yield f"{block}.self_attn.qkv_proj.weight", (rows, hidden)
        yield f"{block}.self_attn.o_proj.weight", (hidden, wide)
        yield f"{block}.post_attention_layernorm.weight", (hidden,)
        yield f"{block}.mlp.gate_up_proj.weight", (2 * shape.intermediate, hidden)
        yield f"{block}.mlp.down_proj.weight", (hidden, shape.intermediate)
    yield "model.norm.weight", (hidden,)


def _config(shape: Shape, rope: Rope, context: int) -> dict[str, Any]:
    return {
        "architectures": ["Phi3ForCausalLM"],
        "eos_token_id": 199999,
        "hidden_act": "silu",
        "hidden_size": shape.hidden,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate,
        "max_position_embeddings": context,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "num_key_value_heads": shape.kv_heads,
        "original_max_position_embeddings": rope.original_context,
        "partial_rotary_factor": rope.dims / shape.head_dim,
        "rms_norm_eps": shape.norm_eps,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": rope.short_factors,
            "long_factor": rope.long_factors,
        },
        "rope_theta": rope.theta,
        "tie_word_embeddings": True,
        "vocab_size": shape.vocab,
    }


if __name__ == "__main__":
    default = shipped_cards() / f"{NAME}.yaml"
    write(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else default)

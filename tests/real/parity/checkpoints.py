"""Small random checkpoints, the same on every machine, so that only logits need to be stored.

Weights come from the raw 64-bit stream of PCG64, which numpy never changes, by exact arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NEW_TOKENS = 40
ORIGINAL_CONTEXT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What `config.json` says, and from which seed the weights are drawn."""

    config: Mapping[str, Any]
    seed: int

    def tensors(self) -> dict[str, NDArray[np.float32]]:
        """Return every tensor by its name in the checkpoint, float32."""
        bits = np.random.PCG64(self.seed)

        def draw(shape: tuple[int, ...]) -> NDArray[np.float32]:
            """Draw from [-1, 1): 24 bits each, so that every step is exact."""
            raw = bits.random_raw(math.prod(shape)).reshape(shape)
            return (raw >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)

        return {
            name: draw(shape) * np.float32(0.25) + np.float32(1)
            if len(shape) == 1
            else draw(shape) * np.float32(_spread(name))
            for name, shape in self._shapes().items()
        }

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        config = self.config
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        head_dim = config["head_dim"]
        query = config["num_attention_heads"] * head_dim
        key = config["num_key_value_heads"] * head_dim
        shapes: dict[str, tuple[int, ...]]
        shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}
        for number in range(config["num_hidden_layers"]):
            products: dict[str, tuple[int, ...]]
            if config["model_type"] == "phi3":
                products = {
                    "self_attn.qkv_proj": (query + 2 * key, hidden),
                    "mlp.gate_up_proj": (2 * wide, hidden),
                }
            else:
                products = {
                    "self_attn.q_proj": (query, hidden),
                    "self_attn.k_proj": (key, hidden),
                    "self_attn.v_proj": (key, hidden),
                    "mlp.gate_proj": (wide, hidden),
                    "mlp.up_proj": (wide, hidden),
                }
            layer = {
                "input_layernorm": (hidden,),
                "post_attention_layernorm": (hidden,),
                "self_attn.o_proj": (hidden, query),
                "mlp.down_proj": (hidden, wide),
                **products,
            }
            shapes |= {f"model.layers.{number}.{name}.weight": layer[name] for name in layer}
        shapes["model.norm.weight"] = (hidden,)
        if not config["tie_word_embeddings"]:
            shapes["lm_head.weight"] = shapes["model.embed_tokens.weight"]
        return shapes


def _spread(name: str) -> float:
    # Wide enough that attention looks at few tokens and logits lie apart; trained models do both.
    return 0.4 if "embed" in name or "lm_head" in name else 0.25


PHI3 = Checkpoint(
    seed=7,
    config={
        "architectures": ["Phi3ForCausalLM"],
        "model_type": "phi3",
        "vocab_size": 256,
        "hidden_size": 256,
        "intermediate_size": 320,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "max_position_embeddings": 512,
        "original_max_position_embeddings": ORIGINAL_CONTEXT,
        "partial_rotary_factor": 0.75,
        "rope_theta": 10000.0,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.02 * number for number in range(24)],
            "long_factor": [1.0 + 0.05 * number * number for number in range(24)],
        },
        "sliding_window": None,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    },
)
LLAMA = Checkpoint(
    seed=11,
    config={
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 256,
        "hidden_size": 192,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": 512,
        "rope_theta": 50000.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    },
)
# What the published `config.json` of Phi-4-mini-instruct says of rotation.
PHI4_MINI = {
    "model_type": "phi3",
    "hidden_size": 3072,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rope_theta": 10000.0,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0] * 48,
        "long_factor": [
            1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817,
            2.187582649, 2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687,
            4.279200023, 4.785517845, 5.351743533, 5.984965424, 6.693110555, 7.485043894,
            8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651, 14.64173252,
            16.37415215, 18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884,
            32.03, 32.1, 32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97,
            33.28, 33.49, 33.5, 44.16, 47.77,
        ],
    },
    "pad_token_id": 0,
}  # fmt: skip
SHORT_POSITIONS = (0, 1, 2, 100, 1000, 4095)
LONG_POSITIONS = (0, 1, 2, 100, 4095, 4096, 30_000, 131_071)

"""Writes `reference.npz`: what transformers computes for the checkpoints of this directory.

Run it where torch and transformers are installed (it is no test, and no test needs them):
`PYTHONPATH=. python tests/real/parity/make_reference.py`.

For every case and prompt: `tokens` int16 (the prompt and 40 tokens chosen greedily) and `logits`
float32 [41, vocab], after the prompt's last token and after each of the 40. For Phi-4-mini at its
real dimensions: its cos and sin tables at some positions. Models run in float32 with the eager
attention. Every sequence is computed anew as a whole, without a KV cache.

Short mode: prompt and answer together stay within the original context. Long mode: transformers
chooses the factors by the greatest position of a call, for all positions of it. So every call is
made longer than the original context, where it must be by tokens that follow behind: attention is
causal, so they change no logits before them, only the mode. That gives what a request computes
that is in long mode from its first token, also while it is shorter than the original context.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]  # not in the project's environment
import transformers  # type: ignore[import-not-found]
from transformers.models.phi3.modeling_phi3 import (  # type: ignore[import-not-found]
    Phi3RotaryEmbedding,
)

from tests.real.parity.checkpoints import (
    LLAMA,
    LONG_POSITIONS,
    NEW_TOKENS,
    ORIGINAL_CONTEXT,
    PHI3,
    PHI4_MINI,
    SHORT_POSITIONS,
    Checkpoint,
)

FILE = Path(__file__).with_name("reference.npz")
# Case -> checkpoint, length of each prompt, least length of a call.
CASES: dict[str, tuple[Checkpoint, tuple[int, ...], int]] = {
    "phi3-short": (PHI3, (5, 17, ORIGINAL_CONTEXT - NEW_TOKENS), 0),
    "phi3-long": (PHI3, (20, 71, 130), ORIGINAL_CONTEXT + 1),
    "llama": (LLAMA, (5, 33, 90), 0),
}
KINDS = {
    "phi3": (transformers.Phi3Config, transformers.Phi3ForCausalLM),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
}


def load(checkpoint: Checkpoint) -> Any:
    """Return the transformers model with the weights of `checkpoint`."""
    config_class, model_class = KINDS[checkpoint.config["model_type"]]
    config = config_class(**checkpoint.config, attn_implementation="eager")
    model = model_class(config).eval()
    tensors = {name: torch.from_numpy(array) for name, array in checkpoint.tensors().items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if checkpoint.config["tie_word_embeddings"] else set()
    if unexpected or set(missing) != tied:
        msg = f"{missing=} {unexpected=}"
        raise SystemExit(msg)
    model.tie_weights()
    return model


def logits(model: Any, tokens: list[int], least_length: int) -> torch.Tensor:
    """Return the logits after each of `tokens`, computed in a call of at least `least_length`."""
    padded = tokens + [1] * (least_length - len(tokens))
    with torch.no_grad():
        output = model(input_ids=torch.tensor([padded]), use_cache=False)
    return output.logits[0, : len(tokens)]


def rotations() -> dict[str, Any]:
    """Return cos and sin of the real Phi-4-mini at some positions, float32 [positions, 48]."""
    rotary = Phi3RotaryEmbedding(transformers.Phi3Config(**PHI4_MINI))
    arrays = {}
    for mode, positions in (("short", SHORT_POSITIONS), ("long", LONG_POSITIONS)):
        cos, sin = rotary(torch.zeros(1), torch.tensor([positions]))
        # Both halves of a head have the same angles.
        arrays[f"phi-4-mini.{mode}.cos"] = cos[0, :, :48].numpy()
        arrays[f"phi-4-mini.{mode}.sin"] = sin[0, :, :48].numpy()
    return arrays


def main() -> None:
    """Write the reference and say how the logits look."""
    arrays: dict[str, Any] = {}
    for case, (checkpoint, lengths, least_length) in CASES.items():
        model = load(checkpoint)
        draw = np.random.PCG64(checkpoint.seed + 1)
        for number, length in enumerate(lengths):
            tokens = (draw.random_raw(length) % np.uint64(checkpoint.config["vocab_size"])).tolist()
            for _ in range(NEW_TOKENS):
                tokens.append(int(logits(model, tokens, least_length)[-1].argmax()))
            rows = logits(model, tokens, least_length)[length - 1 :]
            arrays[f"{case}.{number}.tokens"] = np.array(tokens, np.int16)
            arrays[f"{case}.{number}.logits"] = rows.numpy().astype(np.float32)
            distinct = len(set(tokens[length:]))
            sys.stdout.write(
                f"{case} {number}: spread {rows.std():.2f}, {distinct} tokens differ\n"
            )
    arrays |= rotations()
    np.savez_compressed(FILE, **arrays)
    size_bytes = FILE.stat().st_size
    sys.stdout.write(f"{size_bytes} bytes, transformers {transformers.__version__}\n")


if __name__ == "__main__":
    main()

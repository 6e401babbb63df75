"""The tiny Phi-3 of `tests/importers/tiny_hf.py` as a GGUF file: same weights, same words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import gguf
import numpy as np

from tests.importers import tiny_hf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.importers.tiny_hf import F32

Kind = gguf.GGMLQuantizationType

_NORMAL, _CONTROL, _UNUSED = 1, 3, 5


def write(path: Path, weights: Mapping[str, F32], matrices: Kind) -> None:
    """Write `weights`, by their Hugging Face names, to the new file `path`.

    Matrices are stored as `matrices`, which must be a type that holds them exactly.
    """
    writer = gguf.GGUFWriter(path, "phi3")
    _add_facts(writer)
    _add_vocabulary(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, tiny_hf.LAYERS)
    tensors = {names.get_name(name, (".weight",)) or name: array for name, array in weights.items()}
    tensors |= {"rope_factors_short.weight": np.array(tiny_hf.SHORT_FACTORS, np.float32)}
    tensors |= {"rope_factors_long.weight": np.array(tiny_hf.LONG_FACTORS, np.float32)}
    for name, array in tensors.items():
        kind = matrices if array.ndim > 1 else Kind.F32
        raw = gguf.quants.quantize(array, kind)
        np.testing.assert_array_equal(gguf.quants.dequantize(raw, kind), array)
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_facts(writer: gguf.GGUFWriter) -> None:
    stretch = math.log(tiny_hf.CONTEXT / tiny_hf.ORIGINAL_CONTEXT)
    writer.add_context_length(tiny_hf.CONTEXT)
    writer.add_rope_scaling_orig_ctx_len(tiny_hf.ORIGINAL_CONTEXT)
    writer.add_rope_scaling_attn_factors(
        math.sqrt(1 + stretch / math.log(tiny_hf.ORIGINAL_CONTEXT))
    )
    writer.add_embedding_length(tiny_hf.HIDDEN)
    writer.add_feed_forward_length(tiny_hf.INTERMEDIATE)
    writer.add_block_count(tiny_hf.LAYERS)
    writer.add_head_count(tiny_hf.HEADS)
    writer.add_head_count_kv(tiny_hf.KV_HEADS)
    writer.add_layer_norm_rms_eps(tiny_hf.NORM_EPS)
    writer.add_rope_dimension_count(2 * tiny_hf.PAIRS)
    writer.add_rope_freq_base(tiny_hf.THETA)
    writer.add_sliding_window(2 * tiny_hf.CONTEXT)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    ids: dict[str, int] = tiny_hf.tokenizer()["model"]["vocab"]
    tokens = {number: token for token, number in ids.items()}
    kinds = [
        _UNUSED
        if number not in tokens
        else _CONTROL
        if tokens[number] in tiny_hf.CONTROL
        else _NORMAL
        for number in range(tiny_hf.VOCAB)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(i, f"[PAD{i}]") for i in range(tiny_hf.VOCAB)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tiny_hf.MERGES])
    writer.add_bos_token_id(tiny_hf.CONTROL["<|endoftext|>"])
    writer.add_eos_token_id(tiny_hf.CONTROL["<|endoftext|>"])
    writer.add_chat_template(tiny_hf.TEMPLATE)

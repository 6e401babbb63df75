"""What a `config.json` says of a model, and what it may not say."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_config import MAX_BYTES, Family, parse_config, read_config
from tests.importers.tiny_hf import TinyHf
from tests.shapes import PHI

if TYPE_CHECKING:
    from pathlib import Path

# As published, but for the factors of rotation and for what has no meaning here.
PHI_4_MINI: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
    "bos_token_id": 199999,
    "eos_token_id": 199999,
    "full_attn_mod": 1,
    "hidden_act": "silu",
    "hidden_size": 3072,
    "interpolate_factor": 1,
    "intermediate_size": 8192,
    "lm_head_bias": False,
    "max_position_embeddings": 131072,
    "mlp_bias": False,
    "model_type": "phi3",
    "num_attention_heads": 24,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "original_max_position_embeddings": 4096,
    "partial_rotary_factor": 0.75,
    "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "long_factor": [1 + pair / 2 for pair in range(48)],
        "short_factor": [1.0] * 48,
        "type": "longrope",
    },
    "rope_theta": 10000.0,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "vocab_size": 200064,
}
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "max_position_embeddings": 512,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-6,
    "vocab_size": 300,
}


def test_phi_4_mini_is_read_as_its_makers_describe_it() -> None:
    config = parse_config(PHI_4_MINI)

    assert config.family is Family.PHI3
    assert config.shape == PHI
    assert (config.context, config.is_tied, config.end_token_ids) == (131072, True, (199999,))
    assert (config.rope.dims, config.rope.original_context) == (96, 4096)
    assert config.rope.attention_factor == pytest.approx(1.190238, abs=5e-7)


def test_what_a_llama_leaves_out_is_as_in_transformers() -> None:
    config = parse_config(LLAMA)

    assert (config.shape.kv_heads, config.shape.head_dim) == (4, 16)
    assert (config.rope.theta, config.rope.dims) == (10_000.0, 16)
    assert (config.is_tied, config.end_token_ids) == (False, ())


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 32},
        {"sliding_window": 512},
        {"sliding_window": None, "attention_bias": None},
        {"eos_token_id": [7, 8]},
        {"layer_types": ["full_attention"] * 2},
        {"pretraining_tp": 2, "unknown": {"field": 1}},
    ],
)
def test_what_does_not_change_the_mathematics_is_fine(changes: dict[str, Any]) -> None:
    parse_config(LLAMA | changes)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"architectures": ["Qwen2ForCausalLM"]}, "['Qwen2ForCausalLM'] is not read by this"),
        ({"architectures": None}, "architectures None is not read"),
        ({"architectures": "LlamaForCausalLM"}, "'LlamaForCausalLM' is not read"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; this version reads 'silu'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"mlp_bias": 1}, "mlp_bias is 1"),
        ({"mlp_bias": {}}, "mlp_bias is {}"),
        ({"rope_interleaved": True}, "rope_interleaved is True"),
        ({"full_attn_mod": 2}, "full_attn_mod is 2"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is not read"),
        ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is not read"),
        ({"sliding_window": 511}, "a sliding window of 511 tokens in a context of 512"),
        ({"layer_types": ["sliding_attention"]}, "layers of type 'sliding_attention'"),
        ({"num_key_value_heads": 3}, "4 attention heads share 3 key-value heads unevenly"),
        ({"hidden_size": 66}, "hidden_size 66 is no multiple of 4 attention heads"),
        ({"head_dim": 17}, "17 of 17 dims, which are no pairs"),
        ({"head_dim": 1 << 19}, "4 heads of 524288 dims"),
        ({"partial_rotary_factor": 0.5}, "8 rotated dims of 16, which LlamaForCausalLM"),
        ({"hidden_size": "64"}, "Expected `int`, got `str` - at `$.hidden_size`"),
        ({"hidden_size": 64.5}, "at `$.hidden_size`"),
        ({"hidden_size": True}, "at `$.hidden_size`"),
        ({"num_hidden_layers": 0}, "at `$.num_hidden_layers`"),
        ({"num_hidden_layers": 1 << 40}, "at `$.num_hidden_layers`"),
        ({"vocab_size": -1}, "at `$.vocab_size`"),
        ({"rms_norm_eps": -1e-6}, "at `$.rms_norm_eps`"),
        ({"max_position_embeddings": 1 << 62}, "at `$.max_position_embeddings`"),
        ({"tie_word_embeddings": "yes"}, "at `$.tie_word_embeddings`"),
        ({"eos_token_id": ["end"]}, "at `$.eos_token_id[0]`"),
    ],
)
def test_what_is_not_read_is_named(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_config(LLAMA | changes)

    assert problem in str(caught.value)


@pytest.mark.parametrize("field", sorted(set(LLAMA) - {"architectures", "hidden_act"}))
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(ModelError, match=f"missing required field `{field}`"):
        parse_config({name: value for name, value in LLAMA.items() if name != field})


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.lists(st.integers() | st.text())
    | st.dictionaries(st.text(), st.integers())
)


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(st.sampled_from(sorted(PHI_4_MINI)), ANYTHING, min_size=1))
def test_fields_of_any_kind_are_read_or_refused(changes: dict[str, Any]) -> None:
    with contextlib.suppress(ModelError):
        parse_config(PHI_4_MINI | changes)


def test_the_file_is_read_and_named(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)
    assert read_config(Directory(tmp_path)).family is Family.PHI3

    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"vocab_size": 0}))
    with pytest.raises(ModelError, match=r"^config\.json: .*vocab_size"):
        read_config(Directory(tmp_path))

    (tmp_path / "config.json").write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(ModelError, match=r"^config\.json: .*the limit is"):
        read_config(Directory(tmp_path))

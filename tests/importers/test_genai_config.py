"""`genai_config.json` is read as far as it is used, and must agree with the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.genai import open_genai
from edge_agent.importers.genai_config import check_shape, read_genai_config
from edge_agent.importers.hf_config import Family
from edge_agent.messages import Sampling
from tests.importers.tiny_genai import TinyGenai

if TYPE_CHECKING:
    from pathlib import Path


def set_field(path: str, value: object) -> TinyGenai:
    """Return a package whose configuration has `value` at `path`; None takes the field away."""

    def change(config: dict[str, Any]) -> None:
        *above, name = path.split(".")
        for part in above:
            config = config[part]
        config[name] = value
        if value is None:
            del config[name]

    return TinyGenai(config=change)


def test_names_of_values_are_those_of_the_builder_unless_it_says_otherwise(tmp_path: Path) -> None:
    set_field("model.decoder.inputs", None).write(tmp_path)

    decoder = read_genai_config(Directory(tmp_path)).model.decoder

    assert (decoder.inputs.input_ids, decoder.inputs.attention_mask) == (
        "input_ids",
        "attention_mask",
    )
    assert decoder.outputs.logits == "logits"


@pytest.mark.parametrize(
    ("kind", "family"),
    [("phi3", Family.PHI3), ("phi3v", Family.PHI3), ("llama", Family.LLAMA), ("x", Family.LLAMA)],
)
def test_only_phi_has_end_tokens_of_its_own(tmp_path: Path, kind: str, family: Family) -> None:
    set_field("model.type", kind).write(tmp_path)

    assert read_genai_config(Directory(tmp_path)).model.family is family


def test_greedy_is_no_recommendation(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    config = read_genai_config(Directory(tmp_path))

    assert config.search.sampling == Sampling()
    sampled = msgspec.structs.replace(config.search, do_sample=True)
    assert sampled.sampling == Sampling(temperature=0.7, top_k=40, top_p=0.9)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("model", None, "missing required field `model`"),
        ("model.context_length", 0, r"Expected `int` >= 1 - at `\$\.model\.context_length`"),
        ("model.context_length", 2**40, "Expected `int` <= "),
        ("model.vocab_size", -1, "Expected `int` >= 1"),
        ("model.eos_token_id", "end", "Expected `int | array`"),
        ("model.decoder.num_hidden_layers", 1e9, "Expected `int`"),
        ("model.decoder.filename", 5, "Expected `str`"),
        ("model.decoder.filename", "../model.onnx", "is not the plain name of a file"),
        ("model.decoder.pipeline", [{}], r"cut into several graphs \(pipeline\)"),
        ("search.temperature", -1.0, "Expected `float` >= 0"),
        ("search.top_p", 1.5, "Expected `float` <= 1"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    tmp_path: Path, path: str, value: object, problem: str
) -> None:
    set_field(path, value).write(tmp_path)

    with pytest.raises(ModelError, match=problem), open_genai(tmp_path):
        pass


@pytest.mark.parametrize(
    "name",
    [
        "head_size", "hidden_size", "num_attention_heads", "num_hidden_layers",
        "num_key_value_heads",
    ],
)  # fmt: skip
def test_dimensions_that_are_not_the_graphs_are_refused(tmp_path: Path, name: str) -> None:
    set_field(f"model.decoder.{name}", 7).write(tmp_path)

    with pytest.raises(ModelError, match=rf"{name} is 7, in model\.onnx it is "):
        open_genai(tmp_path).__enter__()


def test_a_vocabulary_that_is_not_the_graphs_is_refused(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    config = read_genai_config(Directory(tmp_path))
    with open_genai(tmp_path) as model:
        shape = msgspec.structs.replace(model.shape, vocab=321)

    with pytest.raises(ModelError, match=r"vocab_size is 320, in model\.onnx it is 321"):
        check_shape(config, shape)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b'{"model": NaN}', b"\xff"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    TinyGenai().write(tmp_path)
    (tmp_path / "genai_config.json").write_bytes(content)

    with pytest.raises(ModelError, match=r"genai_config\.json"), open_genai(tmp_path):
        pass


def test_its_size_is_bounded(tmp_path: Path) -> None:
    TinyGenai().write(tmp_path)
    (tmp_path / "genai_config.json").write_bytes(b" " * (1 << 21))

    with pytest.raises(ModelError, match="2097152 bytes, the limit is 1048576"):
        open_genai(tmp_path).__enter__()

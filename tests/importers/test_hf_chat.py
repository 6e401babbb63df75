"""Chat templates, end tokens and sampling of a Hugging Face directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_chat import MAX_TEMPLATE_BYTES, HfChat
from edge_agent.importers.hf_config import parse_config
from edge_agent.messages import Sampling
from tests.importers.tiny_hf import CONTROL, TEMPLATE, TinyHf

if TYPE_CHECKING:
    from pathlib import Path


def chat(directory: Path, **files: Any) -> HfChat:
    """Return the chat of a directory with these JSON files."""
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return HfChat(Directory(directory))


def rendered(template: str) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    # What the engine renders with: a package has no other place for these tokens.
    return environment.from_string(template).render(bos_token="", eos_token="")


def test_the_template_comes_from_its_own_file_first(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("from the file é", encoding="utf-8")

    found = chat(tmp_path, tokenizer_config={"chat_template": "from the configuration"})

    assert found.template() == "from the file é"


@pytest.mark.parametrize(
    "stated",
    [
        "plain",
        [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}],
    ],
)
def test_the_template_comes_from_the_configuration(tmp_path: Path, stated: Any) -> None:
    assert chat(tmp_path, tokenizer_config={"chat_template": stated}).template() == "plain"


@pytest.mark.parametrize("stated", [None, "", [], [{"name": "tool_use", "template": "tools"}]])
def test_a_model_without_a_template_is_refused(tmp_path: Path, stated: Any) -> None:
    with pytest.raises(ModelError, match="no chat template"):
        chat(tmp_path, tokenizer_config={"chat_template": stated}).template()


@pytest.mark.parametrize("token", ["<s>", {"content": "<s>", "lstrip": False}])
@pytest.mark.parametrize("file", ["tokenizer_config", "special_tokens_map"])
def test_tokens_that_the_template_mentions_are_set(tmp_path: Path, token: Any, file: str) -> None:
    words: dict[str, Any] = {"bos_token": token, "eos_token": "</s>"}
    (tmp_path / "chat_template.jinja").write_text("\n{{ bos_token }}text")

    template = chat(tmp_path, **{file: words}).template()

    assert rendered(template) == "\n<s>text"
    assert "eos_token" not in template


@pytest.mark.parametrize(
    "token", ['a"b\\c', "né\n\t{{ x }}", "%} -%}", "😀", "<\uff5cbegin▁of▁text\uff5c>"]
)
def test_any_text_of_a_token_survives(tmp_path: Path, token: str) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}{% if eos_token %}!{% endif %}")

    template = chat(tmp_path, tokenizer_config={"bos_token": token}).template()

    assert rendered(template) == token


def test_a_token_that_no_file_names_is_empty(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ bos_token }}text")

    assert rendered(chat(tmp_path).template()) == "text"


def test_a_huge_template_is_refused(tmp_path: Path) -> None:
    words = {"chat_template": "x" * (MAX_TEMPLATE_BYTES + 1)}
    with pytest.raises(ModelError, match="a chat template of 262145 bytes"):
        chat(tmp_path, tokenizer_config=words).template()

    (tmp_path / "chat_template.jinja").write_text("x" * (MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(ModelError, match=r"chat_template\.jinja: 262145 bytes"):
        chat(tmp_path).template()


def test_a_template_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")

    with pytest.raises(ModelError, match=r"chat_template\.jinja: .*0xff"):
        chat(tmp_path).template()


def config(**changes: Any) -> Any:
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 96,
        "max_position_embeddings": 512,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 320,
    }
    return parse_config(fields | changes)


@pytest.mark.parametrize(
    ("changes", "files", "expected"),
    [
        ({"eos_token_id": 5}, {}, (5,)),
        ({"eos_token_id": 5}, {"generation_config": {"eos_token_id": [9, 7]}}, (5, 7, 9)),
        ({}, {"generation_config": {"eos_token_id": 7}}, (7,)),
        ({}, {"tokenizer_config": {"eos_token": "<|end|>"}}, (302,)),
        ({"eos_token_id": 5}, {"tokenizer_config": {"eos_token": "<unknown>"}}, (5,)),
        ({}, {"special_tokens_map": {"eos_token": {"content": "<|user|>"}}}, (303,)),
        # Phi-3 and Phi-4: both ends, and the next speaker.
        ({"architectures": ["Phi3ForCausalLM"]}, {}, (300, 301, 302, 303, 304)),
    ],
)
def test_every_end_token_that_is_named_stops(
    tmp_path: Path, changes: dict[str, Any], files: dict[str, Any], expected: tuple[int, ...]
) -> None:
    assert chat(tmp_path, **files).stop_token_ids(config(**changes), CONTROL) == expected


def test_a_model_that_never_ends_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no token ends an answer"):
        chat(tmp_path).stop_token_ids(config(), CONTROL)


@pytest.mark.parametrize("number", [-1, 320, 1 << 70])
def test_an_end_token_beyond_the_vocabulary_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(ModelError, match=f"end token {number} is not in the vocabulary of 320"):
        chat(tmp_path).stop_token_ids(config(eos_token_id=number), CONTROL)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, Sampling()),
        ({"temperature": 0.6, "top_p": 0.9}, Sampling()),  # not recommended, only stored
        (
            {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 40, "min_p": 0.1},
            Sampling(temperature=0.6, top_p=0.9, top_k=40, min_p=0.1),
        ),
        (
            {"do_sample": False, "temperature": 0.6, "repetition_penalty": 1.1},
            Sampling(repetition_penalty=1.1),
        ),
    ],
)
def test_sampling_is_what_the_makers_recommend(
    tmp_path: Path, stated: dict[str, Any], expected: Sampling
) -> None:
    assert chat(tmp_path, generation_config=stated).sampling() == expected


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        ("generation_config", {"temperature": -1}, "at `$.temperature`"),
        ("generation_config", {"top_p": "most"}, "at `$.top_p`"),
        ("generation_config", [], "no JSON object"),
        ("tokenizer_config", {"bos_token": 1}, "at `$.bos_token`"),
        ("tokenizer_config", {"chat_template": [{"name": "x"}]}, "`template`"),
        ("special_tokens_map", {"eos_token": {}}, "`content`"),
    ],
)
def test_a_field_that_is_wrong_is_named(
    tmp_path: Path, file: str, content: Any, problem: str
) -> None:
    with pytest.raises(ModelError, match=rf"^{file}\.json: ") as caught:
        chat(tmp_path, **{file: content})

    assert problem in str(caught.value)


@pytest.mark.parametrize("spelling", ["old", "new"])
def test_a_whole_directory_is_read(tmp_path: Path, spelling: Any) -> None:
    TinyHf(spelling=spelling).write(tmp_path)

    template = HfChat(Directory(tmp_path)).template()

    assert template == '{% set eos_token = "<|endoftext|>" %}\n' + TEMPLATE

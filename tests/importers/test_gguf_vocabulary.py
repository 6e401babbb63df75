"""Vocabularies of GGUF files: tokens, holes, ends, and what begins a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.errors import ModelError
from edge_agent.importers import gguf_vocabulary
from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.gguf_vocabulary import (
    Vocabulary,
    chat_template,
    read_vocabulary,
    stop_token_ids,
)
from tests.importers.tiny_gguf import CONTROL, TEMPLATE, TinyModel, vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTROL_TYPE, USER_DEFINED, UNUSED = 3, 4, 5


@pytest.fixture
def opened(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[GgufFile]:
    """A file with the changes to its metadata that the test's parameter says."""
    with GgufFile(written(tmp_path, getattr(request, "param", {}))) as gguf:
        yield gguf


def written(directory: Path, changes: dict[str, Any], architecture: str = "llama") -> Path:
    keys = {f"tokenizer.{key}": value for key, value in changes.items()}
    TinyModel(architecture=architecture, metadata=keys).write(directory / "tiny.gguf")
    return directory / "tiny.gguf"


def read(gguf: GgufFile) -> Vocabulary:
    return read_vocabulary(gguf, gguf.tensor("token_embd.weight").rows)


def with_more(*more: tuple[str, int]) -> dict[str, Any]:
    """Return the changes that put tokens of these types in place of the last ones."""
    tokens = vocabulary()
    types = [CONTROL_TYPE if token in CONTROL else 1 for token in tokens]
    place = 200  # characters that no merge needs
    for number, (token, kind) in enumerate(more):
        tokens[place + number], types[place + number] = token, kind
    return {"ggml.tokens": tokens, "ggml.token_type": types}


def test_tokens_and_merges_are_those_of_the_file(opened: GgufFile) -> None:
    found = read(opened)

    assert found.ids == {token: number for number, token in enumerate(vocabulary())}
    assert [(token.text, token.id, token.is_special) for token in found.added] == [
        (token, number, True) for number, token in enumerate(CONTROL)
    ]
    assert found.merges[0] == ("h", "e")


@pytest.mark.parametrize(
    "opened",
    [with_more(("[PAD200]", UNUSED), ("[PAD201]", USER_DEFINED), ("<x>", USER_DEFINED))],
    indirect=True,
)
def test_made_up_names_are_holes(opened: GgufFile) -> None:
    found = read(opened)

    assert {200, 201}.isdisjoint(found.ids.values())
    assert [(token.text, token.id, token.is_special) for token in found.added][3:] == [
        ("<x>", 202, False)
    ]


@pytest.mark.parametrize(
    "opened", [with_more(("a", UNUSED), ("[PAD7]", USER_DEFINED))], indirect=True
)
def test_only_the_name_of_its_own_id_is_made_up(opened: GgufFile) -> None:
    found = read(opened)

    assert found.ids["a"] == vocabulary().index("a")
    assert found.ids["[PAD7]"] == 201


@pytest.mark.parametrize(
    ("opened", "problem"),
    [
        ({"ggml.model": "llama"}, "tokenizer 'llama' is not read .* it reads 'gpt2'"),
        ({"ggml.pre": "default"}, "pre-tokenizer 'default' is not known .* gpt-4o, llama-bpe"),
        ({"ggml.token_type": [1]}, "264 tokens, 1 token types"),
        ({"ggml.token_type": [6] * 264}, r"token types \[6\] are not read"),
        ({"ggml.token_type": [-1] * 264}, r"token types \[-1\] are not read"),
        ({"ggml.tokens": ["a"] * 264}, "264 tokens, of which only 1 are distinct"),
        ({"ggml.tokens": ["a"]}, "1 tokens, 264 token types"),
        (with_more(("", CONTROL_TYPE)), "token 200 is empty"),
        (
            {"ggml.tokens": ["a"] * 265, "ggml.token_type": [1] * 265},
            "265 tokens: the embedding has 264 rows, the limit is 524288",
        ),
        ({"ggml.merges": ["h q"]}, "merge 'h q' does not make a token of two"),
        ({"ggml.merges": ["hq"]}, "merge 'hq'"),
        ({"ggml.merges": ["hel lo"]}, "merge 'hel lo'"),
        ({"ggml.merges": ["h e l"]}, "merge 'h e l'"),
    ],
    indirect=["opened"],
)
def test_a_vocabulary_that_contradicts_itself_is_refused(opened: GgufFile, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        read(opened)


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ("MAX_TOKENS", "264 tokens: .* the limit is 2"),
        ("MAX_ADDED", "3 added tokens, the limit is 2"),
    ],
)
def test_a_vocabulary_that_would_cost_too_much_is_refused(
    opened: GgufFile, monkeypatch: pytest.MonkeyPatch, limit: str, problem: str
) -> None:
    monkeypatch.setattr(gguf_vocabulary, limit, 2)

    with pytest.raises(ModelError, match=problem):
        read(opened)


@pytest.mark.parametrize(
    ("opened", "ends"),
    [
        ({}, (0, 2)),  # by their names <|endoftext|> and <|im_end|>
        ({"ggml.eos_token_id": None}, (0, 2)),
        ({"ggml.eos_token_id": 1}, (0, 1, 2)),
        ({"ggml.eot_token_id": 50, "ggml.eom_token_id": 51}, (0, 2, 50, 51)),
        (with_more(("<|eot_id|>", CONTROL_TYPE)), (0, 2, 200)),
        (with_more(("<|end|>", USER_DEFINED)), (0, 2, 200)),
        (with_more(("<|user|>", CONTROL_TYPE)), (0, 2)),
    ],
    indirect=["opened"],
)
def test_an_answer_ends_with_what_the_file_names_and_what_is_known_to(
    opened: GgufFile, ends: tuple[int, ...]
) -> None:
    assert stop_token_ids(opened, read(opened)) == ends


@pytest.mark.parametrize(
    ("opened", "problem"),
    [
        ({"ggml.eos_token_id": 1 << 20}, "eos_token_id 1048576 is not in the vocabulary"),
        ({"ggml.eot_token_id": 264}, "eot_token_id 264 is not in the vocabulary"),
        ({"ggml.eos_token_id": "2"}, "str, not int"),
        (
            with_more(("[PAD200]", UNUSED)) | {"ggml.eos_token_id": 200},
            "eos_token_id 200 is not in the vocabulary",
        ),
        (
            {"ggml.token_type": [1] * 264, "ggml.eos_token_id": None},
            "no token ends an answer",
        ),
    ],
    indirect=["opened"],
)
def test_an_end_that_is_no_token_is_refused(opened: GgufFile, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        stop_token_ids(opened, read(opened))


def test_a_phi_stops_at_the_next_turn_and_takes_white_space(tmp_path: Path) -> None:
    names = [
        "<|end|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|tool_call|>",
        "<|endofprompt|>",
    ]
    changes = with_more(*((name, CONTROL_TYPE) for name in names))

    with GgufFile(written(tmp_path, changes, "phi3")) as gguf:
        found = read(gguf)
        assert stop_token_ids(gguf, found) == (0, 2, 200, 201, 202, 203)
    takes_space = {token.text for token in found.added if token.takes_space}
    assert takes_space == set(names) - {"<|endofprompt|>"}


SET_EOS = '{% set eos_token = "<|im_end|>" %}\n'
BOS_FIRST = "{% if true %}{{ bos_token }}{% endif %}\n"
SET_BOS = '{% set bos_token = "<|im_start|>" %}\n'


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        ({}, TEMPLATE),
        ({"ggml.bos_token_id": 1}, TEMPLATE),
        ({"chat_template": "{{ eos_token }}"}, SET_EOS + "{{ eos_token }}"),
        (
            {"chat_template": "{{ bos_token }}", "ggml.bos_token_id": 1},
            SET_BOS + "{{ bos_token }}",
        ),
        (
            {"ggml.bos_token_id": 1, "ggml.add_bos_token": True},
            SET_BOS + BOS_FIRST + TEMPLATE,
        ),
        ({"ggml.bos_token_id": 1, "ggml.pre": "llama-bpe"}, SET_BOS + BOS_FIRST + TEMPLATE),
        (
            {"ggml.bos_token_id": 1, "ggml.pre": "llama-bpe", "ggml.add_bos_token": False},
            TEMPLATE,
        ),
        (
            {
                "chat_template": "{{ bos_token }}{{ 1 }}",
                "ggml.bos_token_id": 1,
                "ggml.add_bos_token": True,
            },
            SET_BOS + "{{ bos_token }}{{ 1 }}",
        ),
        (
            {
                "chat_template": "<|im_start|>{{ 1 }}",
                "ggml.bos_token_id": 1,
                "ggml.add_bos_token": True,
            },
            "<|im_start|>{{ 1 }}",
        ),
    ],
    indirect=["opened"],
)
def test_the_template_writes_the_tokens_it_needs(opened: GgufFile, expected: str) -> None:
    assert chat_template(opened, read(opened)) == expected


def test_a_first_token_leaves_the_rest_of_the_template_as_it_was(tmp_path: Path) -> None:
    template = "  {% if true %}\n  said\n{% endif %}"
    changes = {
        "chat_template": template,
        "ggml.bos_token_id": 1,
        "ggml.add_bos_token": True,
    }
    with GgufFile(written(tmp_path, changes)) as gguf:
        found = chat_template(gguf, read(gguf))

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    plain, rendered = (environment.from_string(text).render() for text in (template, found))
    assert rendered == "<|im_start|>" + plain


@pytest.mark.parametrize(
    ("opened", "problem"),
    [
        ({"ggml.add_bos_token": True}, "'tokenizer.ggml.bos_token_id', which is missing"),
        ({"ggml.add_bos_token": 1}, "int, not bool"),
        ({"ggml.add_bos_token": True, "ggml.bos_token_id": 999}, "which is missing"),
        ({"chat_template": None}, "'tokenizer.chat_template' is missing"),
    ],
    indirect=["opened"],
)
def test_a_template_that_cannot_be_written_is_refused(opened: GgufFile, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        chat_template(opened, read(opened))

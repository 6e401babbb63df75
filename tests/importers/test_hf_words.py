"""Tokenizer, template, end tokens and sampling of a directory, together."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.directory import Directory
from edge_agent.importers.hf_config import read_config
from edge_agent.importers.hf_words import Words, read_words
from edge_agent.messages import Sampling
from tests.importers.tiny_hf import TEMPLATE, TinyHf

if TYPE_CHECKING:
    from pathlib import Path


def words(path: Path) -> Words:
    directory = Directory(path)
    return read_words(directory, read_config(directory))


def test_all_words_of_a_model_are_read(tmp_path: Path) -> None:
    TinyHf().write(tmp_path)
    generation = {"eos_token_id": 299, "do_sample": True, "top_p": 0.9}
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))

    found = words(tmp_path)

    assert found.tokenizer == (tmp_path / "tokenizer.json").read_bytes()
    assert found.chat_template.endswith(TEMPLATE)
    assert found.stop_token_ids == (299, 300, 301, 302, 303, 304)
    assert found.sampling == Sampling(top_p=0.9)


@pytest.mark.parametrize(
    "template",
    ["{% if %}", "{{ " + "(" * 20_000, "{% for a in b %}" * 30 + "{% endfor %}" * 30],
)
def test_a_template_that_does_not_compile_is_refused(tmp_path: Path, template: str) -> None:
    TinyHf().write(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template)

    with pytest.raises(ModelError, match="chat template: "):
        words(tmp_path)

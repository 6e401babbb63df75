"""The `tokenizer.json` that is made of a vocabulary."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer

from edge_agent.errors import ModelError
from edge_agent.importers.gguf_tokenizer import tokenizer_json
from edge_agent.importers.gguf_vocabulary import Added, Vocabulary
from edge_agent.importers.pre_tokenizers import PRE_TOKENIZERS
from edge_agent.text import tokenizer as text
from tests.importers.tiny_gguf import CONTROL, MERGES, vocabulary


def tiny(**changes: Any) -> Vocabulary:
    fields: dict[str, Any] = {
        "ids": {token: number for number, token in enumerate(vocabulary())},
        "added": tuple(
            Added(text=token, id=number, is_special=number > 0, takes_space=number == 2)
            for number, token in enumerate(CONTROL)
        ),
        "merges": [tuple(merge.split(" ")) for merge in MERGES],
        "pre_tokenizer": PRE_TOKENIZERS["smollm"],
    }
    return Vocabulary(**{**fields, **changes})


def test_text_becomes_the_tokens_of_the_vocabulary() -> None:
    tokenizer = Tokenizer.from_str(tokenizer_json(tiny()).decode())

    encoded = tokenizer.encode("hello wé12<|im_end|>")

    assert encoded.tokens == ["hello", "Ġw", "Ã", "©", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == "hello wé12<|im_end|>"


def test_added_tokens_are_what_the_vocabulary_says() -> None:
    added = json.loads(tokenizer_json(tiny()))["added_tokens"]

    assert [(token["special"], token["rstrip"]) for token in added] == [
        (False, False),
        (True, False),
        (True, True),
    ]


def test_holes_are_no_tokens() -> None:
    ids = {token: number + 5 * (number > 100) for token, number in tiny().ids.items()}

    encoded = tokenizer_json(tiny(ids=ids))

    ours = text.Tokenizer(encoded)
    assert ours.holes(280) == [101, 102, 103, 104, 105, *range(269, 280)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"merges": [("hel", "lo")]}, "the tokenizer does not load: .*hel"),
        (
            {"added": (Added(text="odd", id=900, is_special=True, takes_space=False),)},
            r"other ids than the file, as to \('odd', \d+\)",
        ),
    ],
)
def test_what_does_not_load_as_meant_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        tokenizer_json(tiny(**changes))

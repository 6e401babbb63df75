"""Long texts are cut where it makes no difference: the ids are those of the whole."""

from __future__ import annotations

import functools
import json
import random
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.importers.pre_tokenizers import PRE_TOKENIZERS
from edge_agent.text import cuts
from edge_agent.text.cuts import can_cut, next_cut
from edge_agent.text.tokenizer import Tokenizer, TooMany
from tests.text import o200k

NUM_TOKENS = 6000
"""The first tokens of o200k: enough for real merges, few enough to load in no time."""


@functools.cache
def tokenizer(name: str) -> Tokenizer:
    """Return a small tokenizer that cuts words as the family called `name` does."""
    definition = json.loads(o200k.path().read_bytes())
    model, family = definition["model"], PRE_TOKENIZERS[name]
    vocab = {token: token_id for token, token_id in model["vocab"].items() if token_id < NUM_TOKENS}
    merges = [pair for pair in model["merges"] if "".join(pair) in vocab]
    definition |= {
        "added_tokens": [],
        "pre_tokenizer": family.definition,
        "normalizer": family.normalizer,
        "model": model | {"vocab": vocab, "merges": merges, "ignore_merges": family.ignore_merges},
    }
    return Tokenizer(json.dumps(definition).encode())


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut often, so that short texts show what cuts do."""
    monkeypatch.setattr(cuts, "WORD_CHARS", 80)
    monkeypatch.setattr(cuts, "TEXT_CHARS", 160)


def words(alphabet: str, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet=alphabet, min_size=1, max_size=most)


def letters(alphabet: str, count: int, seed: int) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=count))  # noqa: S311  # a text


# Long words with anything that may decide how they are cut: other scripts, marks, apostrophes.
EDGES = [
    "中", "Ж", "ж", "ǅ", "ª", "é", "\u0301", "'s", "'LL", "'re", "' ", " ", "\n", "\r\n", "\t ",
    "\u3000", "\u00a0", "1", "²", "Ⅷ", "_", "-", "/", "。", "\uff0c", "🙂", "\u200d", "\0",
]  # fmt: skip
SEEDED = st.builds(
    lambda seed, alphabet: letters(alphabet, 300, seed),
    st.integers(0, 99),
    st.sampled_from([string.ascii_lowercase, string.ascii_uppercase, "etaoin", "AB"]),
)
TEXTS = st.lists(
    SEEDED | st.sampled_from(EDGES) | words(string.ascii_letters, 40) | st.text(max_size=4)
    | st.builds(str.__mul__, st.sampled_from(["a", "A", "ab", " ", "\n"]), st.integers(1, 200)),
    max_size=10,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=TEXTS)
def test_pieces_have_the_ids_of_the_whole(short_pieces: None, name: str, text: str) -> None:
    assert tokenizer(name).encode(text) == tokenizer(name)._encode(text)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@pytest.mark.parametrize(
    "text",
    [
        "x" + "'re" + "a" * 400,
        "中" + "A" * 400 + "c",
        "A" * 400 + "中Ef" + "a" * 400 + "中Ef",
        "don't " * 100,
        "word。\n" * 100,
        "ab" * 30 + "\u0301" + "é" * 300 + "a" * 200,
    ],
)
def test_known_difficulties(name: str, text: str) -> None:
    assert tokenizer(name).encode(text) == tokenizer(name)._encode(text)


@pytest.mark.usefixtures("short_pieces")
@pytest.mark.parametrize("name", PRE_TOKENIZERS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=TEXTS, most=st.integers(-5, 300))
def test_who_counts_up_to_a_limit_counts_right(name: str, text: str, most: int) -> None:
    whole = tokenizer(name)._encode(text)
    counted = counted_to(most, tokenizer(name), text)
    if isinstance(counted, int):
        assert most < counted <= len(whole)
    else:
        assert counted == whole


def counted_to(most: int, tokenizer: Tokenizer, text: str) -> list[int] | int:
    """Return the ids of `text`, or how many there are at least."""
    try:
        return tokenizer.encode(text, most=most)
    except TooMany as exc:
        return exc.least


def test_of_a_text_far_too_long_the_beginning_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = o200k.tokenizer()
    chars = 0
    encode = tokenizer._encode

    def note(text: str) -> list[int]:
        nonlocal chars
        chars += len(text)
        return encode(text)

    monkeypatch.setattr(tokenizer, "_encode", note)

    with pytest.raises(TooMany):
        tokenizer.encode("word " * 200_000, most=4095)
    assert chars < 3 * cuts.WORD_CHARS


def test_one_long_word_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = o200k.tokenizer()
    word = letters(string.ascii_lowercase, 100_000, seed=5)
    whole = tokenizer._encode(word)
    pieces: list[int] = []
    encode = tokenizer._encode

    def note(text: str) -> list[int]:
        pieces.append(len(text))
        return encode(text)

    monkeypatch.setattr(tokenizer, "_encode", note)

    assert tokenizer.encode(word) == whole
    assert max(pieces) < 3 * cuts.WORD_CHARS


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("word " * 200_000, None),
        ("x\n" * 400_000, None),
        ("她说。" * 200_000, None),
        ("a" * 600_000, cuts.WORD_CHARS),
        ("A" * 600_000, cuts.WORD_CHARS),
    ],
)
def test_long_text_is_cut_soon(text: str, end: int | None) -> None:
    cut = next_cut(text, 0)

    assert cut
    if end is None:
        assert cuts.TEXT_CHARS <= cut.at < cuts.TEXT_CHARS + 8
        assert not cut.is_inside
        assert text[cut.at - 1].isalpha()
        assert not text[cut.at].isalpha()
    else:
        assert cut == (end, True)


@pytest.mark.parametrize(
    "text", ["", "short text", "a" * 20_000, " " * 600_000, "\0" * 600_000, "1" * 600_000]
)
def test_what_cannot_or_need_not_be_cut_is_not(text: str) -> None:
    assert next_cut(text, 0) is None


@pytest.mark.parametrize("family", PRE_TOKENIZERS.values())
def test_all_ways_of_cutting_words_in_use_are_known(family: Any) -> None:
    assert can_cut(family.definition, family.normalizer)


def split(expression: str, **other: object) -> dict[str, object]:
    return {
        "type": "Split",
        "pattern": {"Regex": expression},
        "behavior": "Isolated",
        "invert": False,
    } | other


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer"),
    [
        (None, None),
        ({"type": "Metaspace"}, None),
        ({"type": "ByteLevel", "add_prefix_space": True}, None),
        ({"type": "ByteLevel", "add_prefix_space": False}, {"type": "Lowercase"}),
        (split(r"\s+", behavior="MergedWithNext"), None),
        (split(r"\w+\s?"), None),
        (split(r"\s+|\w+\s?"), None),
        (split(r"\p{N}{1,3}"), None),  # leaves whole sentences as they are
        ({"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}, None),
        (split(r"\s+|"), None),
        ({"type": "Split", "pattern": {"String": " "}, "behavior": "Isolated"}, None),
        ({"type": "Sequence", "pretokenizers": [split(r"\s+"), {"type": "Whitespace"}]}, None),
    ],
)
def test_other_ways_are_not_cut(pre_tokenizer: object, normalizer: object) -> None:
    assert not can_cut(pre_tokenizer, normalizer)

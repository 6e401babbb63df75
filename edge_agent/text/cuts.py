"""Where a long text may be cut so that its pieces have the ids that they have in the whole.

Long prompts go through the tokenizer library in pieces: it needs 140 bytes per token while it
works, and its time for one word grows faster than the word. A cut is proven by how text is cut
into words anyway, so there are none for ways of cutting that are not known here.
"""

from __future__ import annotations

import re
import string
from typing import NamedTuple

# The library then needs about 70 MB at a time. Smaller pieces would take it up to twice as long:
# what it frees after each is in small blocks, which the C library is slow to hand out again.
TEXT_CHARS = 1 << 19
# A word of this length is merged in the cache of a core.
WORD_CHARS = 1 << 14

# Of the languages that need least; a piece of so much text then has about the tokens that may be.
_CHARS_PER_TOKEN = 4

SURE_CHARS = 32
"""A cut inside a word has so many letters of that word on either side."""

# A letter (or a number that is no digit) before a space, a line break, or punctuation, but no
# apostrophe: it may begin the rest of a word.
_BETWEEN_WORDS = re.compile(r"(?<=[^\W\d_])(?=[\n -&(-/:-@\[-`{-~\u3001\u3002\uff01\uff0c\uff1f])")
# Alternatives of the expressions in use. All end a word after a letter that is followed by one of
# the characters above, and go on over letters of one case.
_LETTERS = r"\p{Lm}\p{Lo}\p{M}"
_SUFFIX = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]*[\p{{Ll}}{_LETTERS}]+{_SUFFIX}?",
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{_LETTERS}]+[\p{{Ll}}{_LETTERS}]*{_SUFFIX}?",
    r"[^\r\n\p{L}\p{N}]?\p{L}+",
)
_OTHERS = (
    _SUFFIX,
    r"\p{N}{1,3}",
    r"\p{N}",
    r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"\s*[\r\n]+",
    r"\s+(?!\S)",
    r"\s+",
)
_KNOWN = "|".join(map(re.escape, (*_WORDS, *_OTHERS)))
_EXPRESSION = re.compile(rf"(?:{_KNOWN})(?:\|(?:{_KNOWN}))*")


class Cut(NamedTuple):
    """A place to cut; inside of a word it is right only if no merge goes across it."""

    at: int
    is_inside: bool


def can_cut(pre_tokenizer: object, normalizer: object) -> bool:
    """Return whether cuts are proven for these parts of a `tokenizer.json`.

    Of normalizers NFC is no obstacle: neither side of a cut is a character that combines.
    """
    match normalizer:
        case None | {"type": "NFC"}:
            pass
        case _:
            return False
    match pre_tokenizer:
        case {"type": "Sequence", "pretokenizers": [*parts]}:
            return all(map(_is_known, parts)) and any(map(_makes_words, parts))
        case _:
            return _is_known(pre_tokenizer) and _makes_words(pre_tokenizer)


def piece_chars(most_tokens: int) -> int:
    """Return how long pieces should be where it is enough to see that `most_tokens` do not do."""
    return min(max(_CHARS_PER_TOKEN * most_tokens, WORD_CHARS), TEXT_CHARS)


def next_cut(text: str, start: int, *, least_chars: int | None = None) -> Cut | None:
    """Return the next cut in what begins at `start`, which is a cut or 0.

    None if there is none, or the rest is short. Pieces of whole words have `least_chars`, by
    default what suits the library. A cut inside a word may be moved to the front by up to half of
    `SURE_CHARS`.
    """
    least = TEXT_CHARS if least_chars is None else least_chars
    # Short windows, one after the other: a search to the end at each cut would be quadratic.
    for at in range(start + WORD_CHARS, len(text) - WORD_CHARS, WORD_CHARS):
        if _is_inside_word(text, start, at):
            return Cut(at, is_inside=True)
        if at - start >= least:
            found = _BETWEEN_WORDS.search(text, at, at + WORD_CHARS)
            if found:
                return Cut(found.start(), is_inside=False)
    return None


def _is_inside_word(text: str, start: int, at: int) -> bool:
    """Return whether `at` is amid ASCII letters of one case that are one word, cut or not."""
    around = text[at - SURE_CHARS : at + SURE_CHARS]
    if not (around.isascii() and around.isalpha()):
        return False
    if around.islower():
        return True
    # A letter without case before the capitals would tie them to it, and to what follows them.
    first = at - len(text[start:at]) + len(text[start:at].rstrip(string.ascii_uppercase))
    return around.isupper() and (first == start or text[first - 1].isascii())


def _is_known(part: object) -> bool:
    """Return whether a pre-tokenizer joins nothing that a cut parts."""
    match part:
        case {"type": "Digits"} | {"type": "ByteLevel", "add_prefix_space": False}:
            return True
        case {"type": "Split", "behavior": "Isolated", "invert": False, "pattern": pattern}:
            return _EXPRESSION.fullmatch(_expression(pattern)) is not None
        case {"type": "Split", "behavior": "Removed", "invert": True, "pattern": pattern}:
            return _EXPRESSION.fullmatch(_expression(pattern)) is not None
        case _:
            return False


def _makes_words(part: object) -> bool:
    """Return whether a known pre-tokenizer ends a word after its letters."""
    match part:
        case {"type": "ByteLevel", "use_regex": False}:
            return False
        case {"type": "ByteLevel"}:
            return True
        case {"type": "Split", "pattern": pattern}:
            return any(word in _expression(pattern) for word in _WORDS)
        case _:
            return False


def _expression(pattern: object) -> str:
    match pattern:
        case {"Regex": str(expression)}:
            return expression
        case _:
            return ""

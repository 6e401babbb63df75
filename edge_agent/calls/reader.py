"""Finds tool calls in an answer while it is written; what is no call stays text, unchanged.

Models write calls as JSON objects, alone or in a list: between tags, after the word `functools`,
or as the whole answer. What such a beginning opens is called a block here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edge_agent.calls.call_json import may_be_call, read_calls
from edge_agent.calls.json_end import JsonEnd
from edge_agent.calls.overlap import overlap
from edge_agent.messages import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Piece = str | ToolCall

# What is held back of one block at most; beyond it, it is text. Arguments of calls are short, and
# the longest search through held text stays in milliseconds.
MOST_HELD_CHARS = 1 << 14

_SEPARATORS = re.compile(r"[\s\[\],;]*")


@dataclass(frozen=True, slots=True)
class _Form:
    """A way to write a block; the last block of an answer need not be closed."""

    opener: str
    closer: str = ""
    values: str = '{"'
    """What values begin with; some models write objects inside of strings."""


# Only where an answer begins: JSON in the middle of one is what the user asked for.
_BARE = _Form("", values="{")
_OPENED = (
    _Form("<|tool_call|>", "<|/tool_call|>"),
    _Form("<tool_call>", "</tool_call>"),
    _Form("functools["),
)
TAGS = tuple(tag for form in _OPENED if form.closer for tag in (form.opener, form.closer))
"""Those may be tokens of their own in a vocabulary; the reader wants to see them as text."""


@dataclass(slots=True)
class _Block:
    """A block that is being read."""

    form: _Form
    at: int
    """How far the held text is understood."""
    value: JsonEnd | None = None
    """The object or string that is being read; it begins at `at`."""
    others: list[str] = field(default_factory=list)
    """Values that are no calls, while there was no call."""
    has_calls: bool = False


class ToolCallReader:
    """Reads one answer."""

    def __init__(self, names: Collection[str], new_id: Callable[[], str]) -> None:
        """Look for calls of the tools called `names`, and give each an id."""
        self._names = frozenset(names)
        self._new_id = new_id
        self._held = ""
        """What was not told yet: of a block without calls all, from its opener on."""
        self._block: _Block | None = None
        self._is_fresh = True
        """Nothing was written yet but white space, so the answer may be a bare block."""
        self._drops_space = False
        """A call was the last thing; the white space after it is nobody's."""

    @property
    def num_held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def feed(self, text: str) -> list[Piece]:
        """Take the next piece of the answer; return what became certain, calls and text in order.

        Text that may be the beginning of a call waits until it is one or cannot be.
        """
        self._held += text
        # Nothing is yielded for separators and for the texts of blocks that were calls.
        return [piece for piece in self._advance() if piece]

    def finish(self) -> list[Piece]:
        """End the answer, and with it any block; return what was held back."""
        text = self._take(len(self._held))
        if self._block and self._block.has_calls:
            # Before a value there are separators; instead of one, perhaps half of a tag.
            text = text[self._block.at :] if self._block.value else ""
        return [text] if text else []

    def _advance(self) -> Iterator[Piece]:
        """Yield what is certain, until more text is needed."""
        while True:
            if self._block is None:
                yield from self._read_text()
            if self._block is None:
                return
            yield from self._read_block(self._block)
            if self._block is not None:
                return

    def _read_text(self) -> Iterator[Piece]:
        """Yield text up to the next block, and enter that if there is one."""
        stripped = self._held.lstrip()
        if self._drops_space:
            self._held, self._drops_space = stripped, not stripped
        if self._is_fresh and not stripped and len(self._held) < MOST_HELD_CHARS:
            return
        if self._is_fresh and stripped[:1] in {"[", "{"}:
            self._block = _Block(_BARE, at=0)
            return
        self._is_fresh = False
        found = [(at, form) for form in _OPENED if (at := self._held.find(form.opener)) >= 0]
        if found:
            at, form = min(found, key=lambda place: place[0])
            self._block = _Block(form, at=len(form.opener))
        else:
            at = len(self._held) - max(overlap(self._held, form.opener) for form in _OPENED)
        yield self._take(at)

    def _read_block(self, block: _Block) -> Iterator[Piece]:
        """Yield the calls of a block; leave it where it ends, or where it can hold none."""
        while self._block:
            if block.value is None:
                block.at = _end_of_separators(self._held, block.at)
                rest = self._held[block.at :]
                if not rest or _is_part(rest, block.form.closer):
                    break
                if rest[0] not in block.form.values:
                    is_closed = rest.startswith(block.form.closer)
                    yield self._leave(block, block.at + is_closed * len(block.form.closer))
                    return
                block.value = JsonEnd(block.at)
            end = block.value.find(self._held)
            if end is None:
                break
            yield from self._close_value(block, end)
        if self._block:
            yield from self._give_up(block)

    def _close_value(self, block: _Block, end: int) -> Iterator[Piece]:
        """Yield what the value that ends at `end` comes to, if that is known already."""
        block.value, value = None, self._held[block.at : end]
        calls = read_calls(value, self._names)
        if calls or block.has_calls:
            block.has_calls = True
            self._take(end)
            yield from block.others
            yield from (self._call(*call) for call in calls)
            yield "" if calls else value
            block.others, block.at = [], 0
        elif block.form is _BARE:
            yield self._leave(block, end)
        else:
            block.others.append(value)
            block.at = end

    def _give_up(self, block: _Block) -> Iterator[Piece]:
        """Leave a block that waits for more, if that would be too much or lead to no call."""
        if len(self._held) >= MOST_HELD_CHARS:
            yield self._leave(block, block.at)
            self._drops_space = False
            yield self._take(len(self._held))
        elif self._is_other_json(block):
            yield self._leave(block, block.at)

    def _is_other_json(self, block: _Block) -> bool:
        """Return whether the answer is an object that is no call, which shall flow like others."""
        if block.form is not _BARE or block.has_calls or not block.value:
            return False
        return not may_be_call(self._held[block.at :], self._names)

    def _leave(self, block: _Block, at: int) -> str:
        """End a block before `at`; return its text if it held no calls."""
        self._block = None
        self._is_fresh = False
        self._drops_space = block.has_calls
        text = self._take(at)
        return "" if block.has_calls else text

    def _take(self, end: int) -> str:
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _call(self, name: str, arguments: str) -> ToolCall:
        return ToolCall(id=self._new_id(), name=name, arguments=arguments)


def _end_of_separators(text: str, start: int) -> int:
    found = _SEPARATORS.match(text, start)
    return found.end() if found else start


def _is_part(text: str, tag: str) -> bool:
    """Return whether `text` may go on to be `tag`."""
    return len(text) < len(tag) and tag.startswith(text)

"""Finds the calls that a peer passes on as text, as it does not know how its model writes them.

Phi-4-mini writes `functools[…]` or tags that the templates and parsers of Ollama and vLLM miss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from edge_agent.calls.reader import ToolCallReader
from edge_agent.messages import Delta, FinishReason, ToolCall
from edge_agent.serving.peers.reply import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edge_agent.calls.reader import Piece as TextPiece
    from edge_agent.serving.peers.reply import Expected, Piece


class TextCalls:
    """Reads the text of one answer to a request that offers tools."""

    def __init__(self, expected: Expected, new_id: Callable[[], str]) -> None:
        """Look for calls of the tools in `expected`, and give each an id."""
        self._text = ToolCallReader(expected.tools, new_id)
        self._most_calls = expected.most_calls
        self._num_calls = 0

    def sift(self, piece: Piece) -> Iterator[Piece]:
        """Yield what became certain with `piece`, in order; after the last call allowed no more."""
        match piece:
            case Delta(text=text):
                yield from self._told(self._text.feed(text))
            case ToolCall():
                yield from self._told([*self._text.finish(), piece])
            case End(finish_reason=reason):
                yield from self._told(self._text.finish())
                calls = self._num_calls > 0 and reason is FinishReason.STOP
                yield replace(piece, finish_reason=FinishReason.TOOL_CALLS) if calls else piece

    def _told(self, pieces: Iterable[TextPiece]) -> Iterator[Piece]:
        for piece in pieces:
            if self._num_calls and self._num_calls >= self._most_calls:
                return
            self._num_calls += isinstance(piece, ToolCall)
            yield Delta(piece) if isinstance(piece, str) else piece

"""Reads one answer, line by line, in whatever way its protocol writes it. No I/O."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NoReturn

from edge_agent.messages import Delta, FinishReason, Usage
from edge_agent.serving.peers.complaint import of_error
from edge_agent.serving.peers.reply import End, Nonsense, TooLong, bare, told
from edge_agent.serving.peers.text_calls import TextCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.serving.peers.reply import Expected, Piece

# Ollama sends a tool call whole, in one line; no answer is longer than this.
MOST_LINE_BYTES = 1 << 20


class AnswerReader(ABC):
    """Reads one answer from the bytes of a peer; a subclass knows one protocol."""

    media_type: ClassVar[str]
    """What a server that speaks the protocol says of its answers."""
    _line_end: ClassVar[bytes]
    """What completes the last line where the server has left it open."""

    def __init__(self, expected: Expected, new_id: Callable[[], str]) -> None:
        """`new_id` makes an id for a call that came without one."""
        self.has_begun = False
        """Whether a piece of the answer itself has come, even one that is not told yet."""
        self.signs_of_life = 0
        """Objects read so far; bytes and comments that come to nothing are no sign of life."""
        self.is_over = False
        """Whether the answer is complete; what follows is not looked at."""
        self._expected = expected
        self._new_id = new_id
        self._num_pieces = 0
        self._lines = _Lines(expected.most_bytes)
        self._text_calls = TextCalls(expected, new_id) if expected.tools else None

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that `data` completes; `End` is the last of all.

        Raises:
            Nonsense: this is no answer; what was yielded before it is void.
        """
        for line in self._lines.split(data):
            if self.is_over:
                return
            for piece in self._line(line):
                self.is_over = isinstance(piece, End)
                yield from self._text_calls.sift(piece) if self._text_calls else (piece,)

    def finish(self) -> Iterator[Piece]:
        """Know that no more bytes come.

        Raises:
            Nonsense: the answer is not complete.
        """
        if not self.is_over:
            yield from self.feed(self._line_end)
        if not self.is_over:
            msg = "ended its answer in the middle"
            raise Nonsense(msg)

    @abstractmethod
    def _line(self, line: bytes) -> Iterator[Piece]:
        """Yield what `line` completes (see `feed`)."""

    def _object(self, *, model: str | None) -> None:
        """Note that one more object of the answer has come, from a server that names its model.

        Raises:
            Nonsense: it is not the model that was asked; some servers do not say which it is.
        """
        self.signs_of_life += 1
        known = self._expected.models
        if model and known and bare(model) not in map(bare, known):
            msg = f"answers with another model, {told(model)!r}"
            raise Nonsense(msg)

    def _give_up(self, error: object) -> NoReturn:
        """End the answer by the `error` that has come in its place.

        Raises:
            TooLong: the error says so, and the answer has not begun.
            Nonsense: it is another one.
        """
        said = of_error(error)
        msg = f"reports an error: {said.words}"
        raise (TooLong if said.is_too_long and not self.has_begun else Nonsense)(msg)

    def _progress(self, text: str | None, *, calls: bool, else_began: bool) -> Iterator[Piece]:
        """Yield `text`, and note that the answer has begun with it, a call, or something else."""
        says = bool(text) or calls
        self._num_pieces += says
        self.has_begun = self.has_begun or says or else_began
        if text:
            yield Delta(text)

    def _end(self, reason: FinishReason, usage: Usage | None, stop: str | None = None) -> End:
        """Return the end; `usage` None where the server has not counted."""
        # Mostly a piece is a token.
        seen = Usage(prompt_tokens=0, completion_tokens=self._num_pieces, is_counted=False)
        return End(finish_reason=reason, usage=usage or seen, stop=stop)


class _Lines:
    """Cuts bytes into lines that end in LF or CRLF, within bounds; keeps what is not yet one."""

    def __init__(self, most_bytes: int) -> None:
        self._left_bytes = most_bytes
        self._most_bytes = most_bytes
        self._rest = bytearray()

    def split(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that `data` completes.

        Raises:
            Nonsense: a line or the whole is too long.
        """
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            msg = f"does not stop: its answer is longer than {self._most_bytes} bytes"
            raise Nonsense(msg)
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._keep(line)
            whole = bytes(self._rest).removesuffix(b"\r")
            self._rest.clear()
            yield whole
        self._keep(rest)

    def _keep(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > MOST_LINE_BYTES:
            msg = f"sends a line of more than {MOST_LINE_BYTES} bytes"
            raise Nonsense(msg)

"""Reads a streamed chat completion: server-sent events, one `chat.completion.chunk` each. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from edge_agent.messages import FinishReason, Usage
from edge_agent.serving.peers.answer_reader import MOST_LINE_BYTES, AnswerReader
from edge_agent.serving.peers.reply import MOST_CALLS, BadCall, Nonsense, Tokens, call_of, told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.serving.peers.reply import Expected, Piece

_END_MARK = b"[DONE]"
# Comments, and the fields of an event that we have no use for. There are no others: a line that
# was garbled must not be taken for one of them, and a piece of the answer with it.
_SILENT = (b":", b"event:", b"id:", b"retry:")
# A named tool ends with "stop" at vLLM, all other calls with "tool_calls".
_FINISHED = {"stop", "tool_calls", "function_call"}


class _Function(Struct):
    name: str | None = None
    # A string, in pieces; some servers send the object itself.
    arguments: str | dict[str, Any] | None = None


class _CallPiece(Struct):
    index: Annotated[int, Meta(ge=0, lt=MOST_CALLS)] = 0
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    # Text that is not part of the answer, but shows that the peer works on it.
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_CallPiece] | None = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None


class _PromptDetails(Struct):
    cached_tokens: Tokens | None = None


class _Usage(Struct):
    prompt_tokens: Tokens
    completion_tokens: Tokens = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(Struct):
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


@dataclass(slots=True)
class _Call:
    """A call of which the arguments come in pieces."""

    id: str | None = None
    name: str | None = None
    arguments: list[str] = field(default_factory=list)


_decode = msgspec.json.Decoder(_Chunk).decode


class OpenAiReader(AnswerReader):
    """One answer of a server that speaks OpenAI's chat API."""

    media_type: ClassVar[str] = "text/event-stream"
    _line_end: ClassVar[bytes] = b"\n\n"

    def __init__(self, expected: Expected, new_id: Callable[[], str]) -> None:
        super().__init__(expected, new_id)
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self._stop: str | None = None
        self._usage: Usage | None = None

    def _line(self, line: bytes) -> Iterator[Piece]:
        """Take one line of the event stream; comments and fields other than data say nothing."""
        if not line:
            yield from self._event()
        elif line.startswith(b"data:"):
            yield from self._data_line(line)
        elif not line.startswith(_SILENT):
            msg = "sends what is no event stream"
            raise Nonsense(msg)

    def _data_line(self, line: bytes) -> Iterator[Piece]:
        data = line.removeprefix(b"data:").removeprefix(b" ")
        if data.startswith(_END_MARK):
            yield from self._event()  # of servers that leave out the empty line
            yield from self._finished()
            return
        self._data.append(data)
        self._data_bytes += len(data)
        if self._data_bytes > MOST_LINE_BYTES:
            msg = f"sends an event of more than {MOST_LINE_BYTES} bytes"
            raise Nonsense(msg)

    def _event(self) -> Iterator[Piece]:
        if not self._data:
            return
        data = b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        try:
            chunk = _decode(data)
        except (ValueError, RecursionError) as exc:
            msg = "sends an event that is no chunk of an answer"
            raise Nonsense(msg) from exc
        yield from self._chunk(chunk)

    def _chunk(self, chunk: _Chunk) -> Iterator[Piece]:
        if chunk.error:
            self._give_up(chunk.error)
        if chunk.choices is None and chunk.usage is None:
            msg = "sends an event that is no chunk of an answer"
            raise Nonsense(msg)
        self._object(model=chunk.model)
        if chunk.usage:
            self._usage = _counted(chunk.usage)
        for choice in chunk.choices or ():
            yield from self._choice(choice)

    def _choice(self, choice: _Choice) -> Iterator[Piece]:
        delta = choice.delta or _Delta()
        says_more = bool(delta.content or delta.tool_calls)
        if choice.index != 0 or delta.refusal or (says_more and self._finish):
            msg = "sends more than the one answer it was asked for"
            raise Nonsense(msg)
        thinks = bool(delta.reasoning or delta.reasoning_content)
        yield from self._progress(
            delta.content,
            calls=bool(delta.tool_calls),
            else_began=thinks or choice.finish_reason is not None,
        )
        for piece in delta.tool_calls or ():
            self._take_call(piece)
        if choice.finish_reason is not None:
            self._finish = choice.finish_reason
            stop = choice.stop_reason
            self._stop = stop if isinstance(stop, str) and stop in self._expected.stop else None

    def _take_call(self, piece: _CallPiece) -> None:
        call = self._calls.setdefault(piece.index, _Call())
        function = piece.function or _Function()
        call.id = call.id or piece.id
        # Later pieces repeat the name, leave it out or say null: the first one counts.
        call.name = call.name or function.name
        match function.arguments:
            case str() as text:
                call.arguments.append(text)
            case dict() as tree:
                call.arguments.append(msgspec.json.encode(tree).decode())
            case None:
                pass

    def _finished(self) -> Iterator[Piece]:
        reason = self._reason()
        for index in sorted(self._calls)[: self._expected.most_calls]:
            call = self._calls[index]
            try:
                whole = call_of(
                    name=call.name,
                    arguments="".join(call.arguments),
                    id_=call.id,
                    expected=self._expected,
                    new_id=self._new_id,
                )
            except BadCall:
                if reason is FinishReason.LENGTH:
                    break  # this one was cut, as the reason says
                raise
            yield whole
        yield self._end(reason, self._usage, self._stop)

    def _reason(self) -> FinishReason:
        match self._finish:
            case "length":
                return FinishReason.LENGTH
            case "tool_calls" if not self._calls:
                msg = "says that it calls tools, and calls none"
                raise Nonsense(msg)
            case str() as reason if reason in _FINISHED:
                return FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
            case None:
                msg = "ended its answer without a reason"
                raise Nonsense(msg)
            case other:
                msg = f"broke off its answer ({told(other)})"
                raise Nonsense(msg)


def _counted(usage: _Usage) -> Usage:
    details = usage.prompt_tokens_details
    cached = details.cached_tokens if details else None
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=min(cached or 0, usage.prompt_tokens),
    )

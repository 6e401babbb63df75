"""Reads a streamed answer of Ollama's `/api/chat`: a JSON object a line, the last `done`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Struct

from edge_agent.messages import FinishReason, Usage
from edge_agent.serving.peers.answer_reader import AnswerReader
from edge_agent.serving.peers.reply import (
    MOST_CALLS,
    Nonsense,
    Tokens,
    TooLong,
    call_of,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from edge_agent.messages import ToolCall
    from edge_agent.serving.peers.reply import Expected, Piece


class _Function(Struct):
    name: str | None = None
    arguments: dict[str, Any] | None = None


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Message(Struct):
    content: str | None = None
    # Text that is not part of the answer, but shows that the peer works on it.
    thinking: str | None = None
    tool_calls: Annotated[list[_Call], Meta(max_length=MOST_CALLS)] | None = None


class _Line(Struct):
    model: str | None = None
    message: _Message | None = None
    done: bool | None = None
    done_reason: str | None = None
    prompt_eval_count: Tokens | None = None
    # Of these; newer versions say it.
    prompt_eval_cached_count: Tokens | None = None
    eval_count: Tokens | None = None
    error: Any = None


_NOTHING = _Message()
_decode = msgspec.json.Decoder(_Line).decode


class OllamaReader(AnswerReader):
    """One answer of an Ollama server."""

    media_type: ClassVar[str] = "application/x-ndjson"
    _line_end: ClassVar[bytes] = b"\n"

    def __init__(self, expected: Expected, new_id: Callable[[], str]) -> None:
        super().__init__(expected, new_id)
        self._calls: list[ToolCall] = []

    def _line(self, line: bytes) -> Iterator[Piece]:
        if not line:
            return
        try:
            said = _decode(line)
        except (ValueError, RecursionError) as exc:
            msg = "sends a line that is no piece of an answer"
            raise Nonsense(msg) from exc
        if said.error:
            self._give_up(said.error)
        if said.done is None:
            msg = "sends a line that is no piece of an answer"
            raise Nonsense(msg)
        self._object(model=said.model)
        message = said.message or _NOTHING
        yield from self._progress(
            message.content,
            calls=bool(message.tool_calls),
            else_began=bool(message.thinking) or said.done,
        )
        self._take_calls(message.tool_calls or ())
        if said.done:
            yield from self._finished(said)

    def _take_calls(self, calls: Iterable[_Call]) -> None:
        for call in calls:
            if len(self._calls) == MOST_CALLS:
                msg = f"calls more than {MOST_CALLS} tools"
                raise Nonsense(msg)
            arguments = msgspec.json.encode(call.function.arguments or {}).decode()
            self._calls.append(
                call_of(
                    name=call.function.name,
                    arguments=arguments,
                    id_=call.id,
                    expected=self._expected,
                    new_id=self._new_id,
                )
            )

    def _finished(self, said: _Line) -> Iterator[Piece]:
        room, read = self._expected.context_tokens, said.prompt_eval_count
        # Versions before 0.12.6 do not know `truncate`; what they have cut fills the context.
        if room is not None and read is not None and read >= room:
            msg = f"cut the prompt to its context of {room} tokens"
            raise TooLong(msg)
        reason = self._reason(said.done_reason)
        yield from self._calls[: self._expected.most_calls]
        yield self._end(reason, _usage(said))

    def _reason(self, done_reason: str | None) -> FinishReason:
        match done_reason:
            case "length":
                return FinishReason.LENGTH
            case "stop" | None | "":  # older versions do not say
                return FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
            case other:
                msg = f"broke off its answer ({told(other)})"
                raise Nonsense(msg)


def _usage(said: _Line) -> Usage | None:
    """Return the counts; older versions leave the prompt's out if all of it was in their cache."""
    read, written = said.prompt_eval_count, said.eval_count
    if read is None or written is None:
        return None
    cached = min(said.prompt_eval_cached_count or 0, read)
    return Usage(prompt_tokens=read, completion_tokens=written, cached_tokens=cached)

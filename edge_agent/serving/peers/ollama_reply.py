"""Reads a streamed answer of Ollama's `/api/chat`: a JSON object a line, the last `done`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct

from edge_agent.messages import Delta, FinishReason, Usage
from edge_agent.serving.peers.complaint import sentence
from edge_agent.serving.peers.reply import (
    MOST_CALLS,
    End,
    Lines,
    Nonsense,
    call_of,
    check_model,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edge_agent.messages import ToolCall
    from edge_agent.serving.peers.reply import Expected, Piece

MEDIA_TYPE = "application/x-ndjson"

Tokens = Annotated[int, Meta(ge=0, le=1 << 40)]


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
    eval_count: Tokens | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Line).decode


class OllamaReader:
    """One answer of an Ollama server."""

    def __init__(self, expected: Expected, new_id: Callable[[], str]) -> None:
        self.has_begun = False
        self.signs_of_life = 0
        self.is_over = False
        self._expected = expected
        self._new_id = new_id
        self._lines = Lines(expected.most_bytes)
        self._calls: list[ToolCall] = []
        self._num_pieces = 0

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Yield the pieces that `data` completes (see `Reader`)."""
        for line in self._lines.split(data):
            if self.is_over:
                return
            if line:
                yield from self._line(line)

    def finish(self) -> Iterator[Piece]:
        """Know that no more bytes come (see `Reader`)."""
        if not self.is_over:
            yield from self.feed(b"\n")
        if not self.is_over:
            msg = "ended its answer in the middle"
            raise Nonsense(msg)

    def _line(self, line: bytes) -> Iterator[Piece]:
        try:
            said = _decode(line)
        except (ValueError, RecursionError) as exc:
            msg = "sends a line that is no piece of an answer"
            raise Nonsense(msg) from exc
        if said.error:
            msg = f"reports an error: {sentence(said.error)}"
            raise Nonsense(msg)
        if said.done is None:
            msg = "sends a line that is no piece of an answer"
            raise Nonsense(msg)
        self.signs_of_life += 1
        check_model(said.model, self._expected)
        message = said.message or _Message()
        if message.content:
            yield Delta(message.content)
        self._take_calls(message.tool_calls or ())
        says = bool(message.content or message.tool_calls)
        self._num_pieces += says
        self.has_begun = self.has_begun or says or bool(message.thinking) or said.done
        if said.done:
            yield from self._end(said)

    def _take_calls(self, calls: list[_Call] | tuple[()]) -> None:
        if len(self._calls) + len(calls) > MOST_CALLS:
            msg = f"calls more than {MOST_CALLS} tools"
            raise Nonsense(msg)
        for call in calls:
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

    def _end(self, said: _Line) -> Iterator[Piece]:
        reason = self._reason(said.done_reason)
        yield from self._calls[: self._expected.most_calls]
        self.is_over = True
        counted = said.eval_count
        yield End(
            finish_reason=reason,
            usage=Usage(
                # Left out where the whole prompt was in its cache.
                prompt_tokens=said.prompt_eval_count or 0,
                # A server that counts nothing is taken to send a piece per token.
                completion_tokens=self._num_pieces if counted is None else counted,
            ),
        )

    def _reason(self, done_reason: str | None) -> FinishReason:
        match done_reason:
            case "length":
                return FinishReason.LENGTH
            case "stop" | None | "":  # older versions do not say
                return FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
            case other:
                msg = f"broke off its answer ({told(other)})"
                raise Nonsense(msg)

"""What an answer of a peer is made of, and what makes it none. Bytes in, pieces out, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from edge_agent.messages import Delta, FinishReason, NamedTool, ToolCall, ToolMode, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.messages import Request

# A piece of one token is wrapped in 150 to 400 bytes; with log-probs switched on, in more.
WIRE_BYTES_PER_TOKEN = 2048
# What the longest context there is comes to in small pieces; the deadline ends it long before.
MOST_WIRE_BYTES = 64 << 20
# Head, usage and end of an answer, and the arguments of a call that come in one piece.
LEAST_WIRE_BYTES = 2 << 20
MOST_CALLS = 128
_MOST_ID_CHARS = 128

Tokens = Annotated[int, Meta(ge=0, le=1 << 40)]
"""A count of tokens as servers write it."""


class Nonsense(Exception):
    """What the peer sent is no answer to the request; says what it did, after the peer's name."""


class TooLong(Nonsense):
    """The prompt does not fit the context there, or was cut to fit it; another may have more."""


class BadCall(Nonsense):
    """The model there called no tool that it had to call, or called one wrongly.

    It may still be good for text, and another model for this request.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the answer to one request may hold."""

    models: frozenset[str]
    """The names the peer may call its model by; none: any."""
    tools: frozenset[str]
    """The tools that may be called."""
    must_call: bool
    """Whether text alone is no answer."""
    stop: tuple[str, ...]
    most_calls: int
    most_bytes: int
    context_tokens: int | None = None
    """The context that was asked for with the request."""

    @classmethod
    def of(
        cls, request: Request, models: frozenset[str], context_tokens: int | None = None
    ) -> Expected:
        """Return what may answer `request`."""
        most_bytes = MOST_WIRE_BYTES
        if request.max_tokens is not None:
            most_bytes = min(
                MOST_WIRE_BYTES, LEAST_WIRE_BYTES + request.max_tokens * WIRE_BYTES_PER_TOKEN
            )
        return cls(
            models=models,
            tools=_callable(request),
            must_call=request.tool_choice not in {ToolMode.AUTO, ToolMode.NONE},
            stop=request.stop,
            most_calls=MOST_CALLS if request.parallel_tool_calls else 1,
            most_bytes=most_bytes,
            context_tokens=context_tokens,
        )


class End(Struct, frozen=True, kw_only=True):
    """The answer is complete."""

    finish_reason: FinishReason
    usage: Usage
    stop: str | None = None


Piece = Delta | ToolCall | End


def _callable(request: Request) -> frozenset[str]:
    match request.tool_choice:
        case NamedTool(name=name):
            return frozenset({name})
        case ToolMode.NONE:
            return frozenset()
        case ToolMode.AUTO | ToolMode.REQUIRED:
            return frozenset(tool.name for tool in request.tools)


def bare(model: str) -> str:
    """Return the name of a model without the tag that Ollama adds to names without one."""
    return model.removesuffix(":latest")


def call_of(
    *,
    name: str | None,
    arguments: str,
    id_: str | None,
    expected: Expected,
    new_id: Callable[[], str],
) -> ToolCall:
    """Return the call that a peer wants made.

    Raises:
        BadCall: there is no such tool, or the arguments are not an object.
    """
    if name not in expected.tools:
        msg = f"calls {told(name or '')!r}, which is not among the tools"
        raise BadCall(msg)
    try:
        is_object = isinstance(msgspec.json.decode(arguments or "{}"), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        msg = f"calls {name!r} with arguments that are not a JSON object"
        raise BadCall(msg)
    id_ = id_ if id_ and len(id_) <= _MOST_ID_CHARS else new_id()
    return ToolCall(id=id_, name=name, arguments=arguments or "{}")


def check_calls(pieces: Sequence[Piece]) -> None:
    """Check that a whole answer in `pieces` calls a tool, as it had to.

    Raises:
        BadCall: it does not, and was not cut either: the peer has dropped `tool_choice`.
    """
    was_cut = any(
        isinstance(piece, End) and piece.finish_reason is FinishReason.LENGTH for piece in pieces
    )
    if not was_cut and not any(isinstance(piece, ToolCall) for piece in pieces):
        msg = "was to call a tool and did not"
        raise BadCall(msg)


def told(text: str, most_chars: int = 200) -> str:
    """Return `text` of a peer as part of a sentence of ours: one short line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:2000]).split())
    return line if len(line) <= most_chars else f"{line[:most_chars]}…"

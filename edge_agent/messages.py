"""The vocabulary: what a prompt is and what comes back, the same objects on every floor.

A `Request` goes down from a transport to a model, `Event`s come up. Everything here crosses a
process boundary as MessagePack, so everything here is a msgspec struct of plain values.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from edge_agent.errors import EdgeError


class Role(StrEnum):
    """Who speaks in a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ToolCall(Struct, frozen=True, kw_only=True, tag="tool_call"):
    """The model wants function `name` called; as an event it comes whole, never in pieces.

    `arguments` is the text of a JSON object. `id` is what the result will refer to.
    """

    id: str
    name: str
    arguments: str


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation; whatever it says may come from a user and is never trusted.

    `tool_calls` are those an assistant made in this turn; `tool_call_id` says which of them the
    content of a `Role.TOOL` turn is the result of.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A function that the model may ask to have called.

    `parameters` is the JSON schema of the object that its arguments are, never trusted either.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}


class Beginning(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What many prompts begin with: a system prompt, tools that are offered, or both."""

    name: str
    """For the log."""
    system: str | None = None
    tools: tuple[Tool, ...] = ()


class ToolMode(StrEnum):
    """Whether the model may call tools (auto), may not (none), or has to (required)."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class NamedTool(Struct, frozen=True):
    """The model has to call this very tool."""

    name: str


ToolChoice = ToolMode | NamedTool


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen. `None` means: as the model's package says.

    temperature 0 is greedy: the argmax of the logits after penalties. top_k 0, top_p 1 and min_p 0
    switch the filter off. Penalties look at the answer only (presence, frequency) or at prompt and
    answer (repetition), as vLLM and OpenAI define them.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None


class Policy(StrEnum):
    """How far a prompt may travel: not off this machine, to peers of the site, to any peer."""

    LOCAL = "local"
    SITE = "site"
    ANY = "any"


class Priority(StrEnum):
    """Who gives way when there is not room for all."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Request(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One prompt to answer.

    `id` names it everywhere (journal, logs, wires). `model` is the name as the client wrote it.
    `max_tokens` None means: until the model stops or the context is full. `deadline_s` counts from
    the moment the request was received. `stream` asks for `Delta`s on the wire; the events between
    the parts of the daemon always carry them. Without `parallel_tool_calls` an answer ends after
    its first call. `policy` None means: as configured. `keep_alive_s` is how long the model stays
    loaded afterwards: 0 not at all, negative for ever, None as configured. `hops` counts the
    edge_agents that the request came through before this one. `client` is whom it counts for when
    the engine is shared out fairly, as the transport knows it; empty: nobody in particular.

    `logprobs` is how many of the likeliest tokens are told beside each chosen one, None for no
    log-probabilities at all. `logit_bias` is added to the logits of those token ids. The first
    `min_tokens` tokens end nothing, neither by themselves nor by a stop string in their text.
    `ignore_eos` writes on past the model's own end tokens; `stop_token_ids` are further ones.
    """

    id: str
    messages: tuple[Message, ...]
    model: str | None = None
    sampling: Sampling = Sampling()
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    deadline_s: float | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolMode.AUTO
    parallel_tool_calls: bool = True
    policy: Policy | None = None
    priority: Priority = Priority.NORMAL
    client: str = ""
    keep_alive_s: float | None = None
    hops: int = 0
    logprobs: int | None = None
    logit_bias: dict[int, float] = {}
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens read and written for one answer.

    `cached_tokens` of the prompt were known from earlier prompts and not computed again. Without
    `is_counted` whoever answered has told no numbers: these are what was seen of the answer here,
    pieces and not tokens, good enough for a log and for nothing that goes out.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    is_counted: bool = True

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


class Timings(Struct, frozen=True, kw_only=True):
    """Where the time of an answer went, in seconds: waiting for a slot, prefill, decode."""

    queue_s: float
    prefill_s: float
    decode_s: float


class Accepted(Struct, frozen=True, kw_only=True, tag="accepted"):
    """The request fits and will be answered; nothing after this is a refusal.

    It comes again when another takes over, which happens before the first piece of the answer only.
    `prompt_tokens` None: who answers has not counted them yet. `served_by` is "local" or a peer's
    name, `reason` a short stable word for why it is that one.
    """

    prompt_tokens: int | None
    served_by: str = "local"
    reason: str = ""


class TokenLogprob(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A token and its natural log-probability; `top` are the likeliest tokens in its place.

    `data` are the bytes it adds to the text, which need not be whole characters: in `text` those
    that are not are U+FFFD. A control token adds none, its `data` is None and `text` its name.
    """

    text: str
    logprob: float
    data: bytes | None = None
    top: tuple[TokenLogprob, ...] = ()


class Delta(Struct, frozen=True, omit_defaults=True, tag="delta"):
    """The next piece of text, whole characters only; joined in order the pieces are the answer.

    `logprobs`, if they were asked for, are those of the tokens that begin in this piece, and of
    tokens around it that show no text: in a call, a stop string, at the end. If there is no text
    to go with, the piece is empty.
    """

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The answer is complete.

    `stop` is the stop string, or the token of the request's `stop_token_ids`, that ended it.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    stop: str | int | None = None


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    """There will be no (further) answer. Before `Accepted` this is a refusal.

    `code` is one of the stable codes of `edge_agent.errors`; `retryable` says whether the same
    request may succeed later, `retry_after_s` when. `reason` is a short stable word for why nobody
    was asked, as in `Accepted`; empty where somebody was, or where the request itself is wrong.
    """

    code: str
    message: str
    retryable: bool
    retry_after_s: float | None = None
    param: str | None = None
    reason: str = ""

    @classmethod
    def of(cls, error: EdgeError) -> Failed:
        """Return the event that tells of `error`."""
        return cls(
            code=error.code,
            message=str(error),
            retryable=error.retryable,
            retry_after_s=error.retry_after_s,
            param=error.param,
        )


Event = Accepted | Delta | ToolCall | Done | Failed
Events = AsyncGenerator[Event, None]  # not AsyncIterator: its reader must be able to close it


class Answer(Struct, frozen=True, kw_only=True):
    """A whole answer: the fold of an event stream that ended in `Done`.

    `logprobs` are those of all its tokens, empty if nobody asked.
    """

    text: str
    done: Done
    tool_calls: tuple[ToolCall, ...] = ()
    served_by: str = "local"
    reason: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()


def fold(events: Iterable[Event]) -> Answer | Failed:
    """Join the events of one request into its answer, or return how it failed.

    Raises:
        ValueError: the events end without `Done` or `Failed`, which no backend may do.
    """
    pieces: list[str] = []
    calls: list[ToolCall] = []
    logprobs: list[TokenLogprob] = []
    served_by, reason = "local", ""
    for event in events:
        match event:
            case Accepted():
                served_by, reason = event.served_by, event.reason
            case Delta():
                pieces.append(event.text)
                logprobs += event.logprobs
            case ToolCall():
                calls.append(event)
            case Done():
                return Answer(
                    text="".join(pieces),
                    done=event,
                    tool_calls=tuple(calls),
                    served_by=served_by,
                    reason=reason,
                    logprobs=tuple(logprobs),
                )
            case Failed():
                return event
    msg = "event stream ended without Done or Failed"
    raise ValueError(msg)

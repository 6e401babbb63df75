"""Every way to fail, as a tree: a stable code, the facts, and whether a retry can help.

EdgeError
├── InvalidRequest          the request is malformed; names the field
│   ├── Unsupported         well-formed, but asks for something this build does not do
│   ├── PromptTooLong       does not fit the context; both numbers are in the sentence
│   └── TooLarge            over a size limit; names field, size and limit
├── Unauthorized · Forbidden
├── ModelNotFound
├── Conflict                the same id came before with another payload
├── Overloaded              the queue is full
├── Busy                    the journal cannot take it (full, disk full, read-only)
├── Loading                 the model is being prepared or loaded
├── Draining                the daemon is going down
├── Expired                 the deadline passed before the request was started
├── DeadlineExceeded        the deadline passed while the request was running
├── Cancelled               the client asked for that
├── EngineCrashed           the engine process died under this request
├── Pressure                memory is short: not admitted, or sent back to make room
│   └── Recalled            the same for one that the engine had not begun: the router's matter
├── NoRoom                  it needs more memory than there can ever be here
├── PeerFailed              a peer did not answer, or answered nonsense
├── PeerRefused             a peer says that the request itself is wrong
│   └── TooLongForPeer      does not fit the context there; elsewhere it may
├── Unavailable             nobody can answer now, neither here nor elsewhere
├── Poison                  the request crashed the engine too often and is refused
├── Internal                a bug of ours
├── ConfigError             the configuration cannot be used; names file and key
└── ModelError              a model package or its source cannot be used
"""

from __future__ import annotations

import math
from typing import ClassVar


class EdgeError(Exception):
    """Base of all errors that reach a user; subclasses write their own sentence."""

    code: ClassVar[str]
    retryable: ClassVar[bool] = False
    retry_after_s: float | None = None
    param: str | None = None


class InvalidRequest(EdgeError):
    """A field of a request is missing, mistyped or out of range."""

    code = "invalid_request"

    def __init__(self, problem: str, param: str | None = None) -> None:
        super().__init__(f"{param}: {problem}" if param else problem)
        self.param = param


class Unsupported(InvalidRequest):
    """The request is well-formed but asks for something this build does not do."""

    code = "unsupported"


class PromptTooLong(InvalidRequest):
    """The prompt does not fit the context window."""

    code = "context_length_exceeded"

    def __init__(self, prompt_tokens: int, limit_tokens: int, *, is_least: bool = False) -> None:
        """`is_least`: the tokens were not counted, there may be more."""
        least = "at least " if is_least else ""
        super().__init__(
            f"prompt is {least}{prompt_tokens} tokens, the limit is {limit_tokens} "
            "(one token of the context is kept for the answer)"
        )
        self.param = "messages"
        self.prompt_tokens = prompt_tokens
        self.limit_tokens = limit_tokens


class TooLarge(InvalidRequest):
    """Something is over its size limit."""

    code = "too_large"

    def __init__(self, param: str, size: int, limit: int, unit: str = "bytes") -> None:
        super().__init__(f"{size} {unit} is over the limit of {limit} {unit}", param)


class Unauthorized(EdgeError):
    """No key, or a wrong one."""

    code = "unauthorized"

    def __init__(self) -> None:
        super().__init__("missing or wrong API key (send it as Authorization: Bearer KEY)")


class Forbidden(EdgeError):
    """The caller may not do this from there."""

    code = "forbidden"


class ModelNotFound(EdgeError):
    """No such model here."""

    code = "model_not_found"

    def __init__(self, name: str, available: tuple[str, ...]) -> None:
        known = ", ".join(available) or "none"
        super().__init__(f"model {name!r} is not here; available: {known}")
        self.param = "model"


class Conflict(EdgeError):
    """The same id came before with another payload."""

    code = "idempotency_conflict"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"id {request_id!r} was used before with another payload")
        self.param = "id"


class _ComeBack(EdgeError):
    """A refusal that names its reason and when to come back."""

    retryable = True

    def __init__(self, reason: str, retry_after_s: float) -> None:
        # Never sooner than `Retry-After` says, which knows whole seconds only.
        super().__init__(f"{reason}; retry in {math.ceil(retry_after_s)} s")
        self.retry_after_s = retry_after_s


class Overloaded(_ComeBack):
    """The queue is full."""

    code = "overloaded"


class Busy(_ComeBack):
    """The journal cannot take the request: full, disk full, or read-only."""

    code = "busy"


class Loading(_ComeBack):
    """The model is being prepared or loaded."""

    code = "loading"


class Draining(_ComeBack):
    """The daemon is going down and takes no new work."""

    code = "draining"


class Expired(EdgeError):
    """The deadline passed before the request was started."""

    code = "expired"

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"deadline of {deadline_s:g} s passed before the request was started")
        self.param = "deadline_s"


class DeadlineExceeded(EdgeError):
    """The deadline passed while the request was running."""

    code = "deadline_exceeded"

    def __init__(self, deadline_s: float) -> None:
        super().__init__(f"deadline of {deadline_s:g} s passed before the answer was complete")
        self.param = "deadline_s"


class Cancelled(EdgeError):
    """The client cancelled the request."""

    code = "cancelled"

    def __init__(self) -> None:
        super().__init__("cancelled by the client")


class EngineCrashed(EdgeError):
    """The engine process died under this request."""

    code = "engine_crashed"
    retryable = True

    def __init__(self, how: str) -> None:
        super().__init__(f"the engine process ended ({how}) while this request was running")
        self.retry_after_s = 2.0  # a new child serves within seconds


class Pressure(_ComeBack):
    """Memory is short: the request is not admitted, or was sent back to make room."""

    code = "memory_pressure"


class Recalled(Pressure):
    """The engine gives a request back that it had not begun; it waits at the door again."""

    code = "recalled"


class NoRoom(EdgeError):
    """The request can never get the memory it needs here."""

    code = "insufficient_memory"

    def __init__(self, needed_bytes: int, available_bytes: int, fits_tokens: int) -> None:
        super().__init__(
            f"the request needs {needed_bytes} bytes of memory, there are never more than "
            f"{available_bytes}; {fits_tokens} tokens of prompt and answer would fit"
        )
        self.param = "max_tokens"
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.fits_tokens = fits_tokens


class PeerFailed(EdgeError):
    """A peer did not answer, or answered nonsense; another one may do better."""

    code = "peer_failed"
    retryable = True

    def __init__(self, name: str, problem: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"peer {name!r} {problem}")
        self.retry_after_s = retry_after_s


class PeerRefused(EdgeError):
    """A peer says that the request itself is wrong; asking again does not help."""

    code = "peer_refused"

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"peer {name!r} {problem}")


class TooLongForPeer(PeerRefused):
    """The prompt does not fit the context of a peer; another, or the model here, may have more."""

    code = PromptTooLong.code
    param = "messages"


class Unavailable(_ComeBack):
    """Nobody can answer now, neither here nor elsewhere."""

    code = "unavailable"


class Poison(EdgeError):
    """The request crashed the engine too often."""

    code = "poison"

    def __init__(self, crashes: int) -> None:
        super().__init__(f"this request was running in {crashes} crashes and is not tried again")


class Internal(EdgeError):
    """A bug of ours; the log has the trace."""

    code = "internal"

    def __init__(self) -> None:
        super().__init__("internal error; the log of the daemon has the details")


class ConfigError(EdgeError):
    """The configuration cannot be used."""

    code = "config"

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


class ModelError(EdgeError):
    """A model package or its source cannot be used."""

    code = "model_unusable"

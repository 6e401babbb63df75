"""What it means that a peer did not answer: for its breaker, the request, the client. Pure."""

from __future__ import annotations

from enum import Enum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING

from edge_agent.errors import EdgeError, PeerFailed, PeerRefused, TooLongForPeer
from edge_agent.serving.peers.complaint import complaint

if TYPE_CHECKING:
    from edge_agent.serving.peers.complaint import Complaint

_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
# These tell that the peer is configured wrongly, here or there, and nothing about the request.
_SET_UP_WRONG = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.METHOD_NOT_ALLOWED,
    }
)
# vLLM without its tool flags, and Ollama with a model whose template knows none, say so in a 400.
_NO_TOOLS = ("tool choice requires", "does not support tools")
# Ollama, of a model that only embeds.
_NO_CHAT = "does not support chat"


class Kind(Enum):
    """What follows from it."""

    AWAY = auto()
    """It was not reached: another is asked at once, and its breaker counts."""
    WRONG = auto()
    """It answered badly: another may be asked, and its breaker counts."""
    BUSY = auto()
    """It has no room now: another may be asked, and it is left alone for a while."""
    UNFIT = auto()
    """It cannot serve this request, others it can: another may be asked."""
    REFUSED = auto()
    """The request is wrong by its account: the end."""
    LATE = auto()
    """The deadline passed: the end, and nobody's fault."""


class Trouble(Exception):
    """A peer did not answer; no text of it counts that was not delivered before."""

    def __init__(self, kind: Kind, error: EdgeError, cause: str) -> None:
        super().__init__(str(error))
        self.kind = kind
        self.error = error
        self.cause = cause
        """A few words for health and log that repeat nothing of the peer's own."""


def by_status(name: str, status: int, body: bytes, asked_s: float | None) -> Trouble:
    """Return what it means that peer `name` answered with `status`, which is not 200.

    `asked_s` is its Retry-After.
    """
    said = complaint(body)
    problem = f"answers with status {status}" + (f": {said.words}" if said.words else "")
    kind = _kind(status, said, asked_s)
    match kind:
        case Kind.UNFIT if said.is_too_long:
            error: EdgeError = TooLongForPeer(name, problem)
        case Kind.UNFIT:
            error = PeerFailed(name, "takes no tools")
        case Kind.REFUSED:
            error = PeerRefused(name, problem)
        case _:
            error = PeerFailed(name, problem, asked_s if kind is Kind.BUSY else None)
    return Trouble(kind, error, f"status {status}")


def _kind(status: int, said: Complaint, asked_s: float | None) -> Kind:
    is_busy = status in _BUSY or (status == HTTPStatus.REQUEST_TIMEOUT and asked_s is not None)
    if is_busy:
        return Kind.BUSY
    takes_no_tools = status == HTTPStatus.BAD_REQUEST and any(
        words in said.words for words in _NO_TOOLS
    )
    # Ollama says it with a status of its own fault, too.
    if takes_no_tools or (said.is_too_long and status >= HTTPStatus.BAD_REQUEST):
        return Kind.UNFIT
    if _NO_CHAT in said.words:
        return Kind.WRONG
    is_about_request = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Kind.REFUSED if is_about_request and status not in _SET_UP_WRONG else Kind.WRONG

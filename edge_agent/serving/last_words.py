"""Says to a request that goes nowhere why: what is missing here, and what the peers lack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from edge_agent.messages import Failed
from edge_agent.serving.admission import Reason
from edge_agent.serving.refusals import refusal, unavailable

if TYPE_CHECKING:
    from edge_agent.errors import EdgeError
    from edge_agent.messages import Request
    from edge_agent.serving.admission import Load, Need, Rules
    from edge_agent.serving.visit import Visit


class Excuses(Protocol):
    """What the peers say for themselves."""

    def problem(self, request: Request) -> str | None:
        """Return why none can answer, in a few words; None if none may: there is nobody."""
        ...

    def barred(self, request: Request) -> str:
        """Return which of them only the policy keeps `request` from; empty if none."""
        ...

    def refusal(self, request: Request) -> EdgeError | None:
        """Return why none will ever answer `request` as it is; None if one may."""
        ...


class LastWords:
    """Puts both halves of a refusal together."""

    def __init__(self, peers: Excuses, rules: Rules) -> None:
        self._peers = peers
        self._rules = rules

    def to(self, visit: Visit, reason: Reason, load: Load, need: Need) -> Failed:
        """Return the last word to `visit`, which goes nowhere for `reason`."""
        if reason is Reason.NO_LOCAL_MODEL:
            # What nobody can do, now or later, is the request's matter and not the moment's.
            said = visit.failed_there
            if said is not None and not said.retryable:
                return said
            if said is None and (never := self._peers.refusal(visit.request)) is not None:
                return replace(Failed.of(never), reason=reason.value)
        error = refusal(reason, load, need, self._rules)
        return replace(Failed.of(self._with_peers(error, visit, reason)), reason=reason.value)

    def _with_peers(self, error: EdgeError, visit: Visit, reason: Reason) -> EdgeError:
        """Return `error`, or what is true where peers were there to help and cannot."""
        if reason in {Reason.DRAINING, Reason.TOO_LARGE} or self._rules.fallback == "never":
            return error
        if visit.failed_there is not None:
            said = (visit.failed_there.message, self._peers.barred(visit.request))
            return unavailable(error, "; ".join(filter(None, said)))
        problem = self._peers.problem(visit.request)
        return error if problem is None else unavailable(error, problem)

"""A router with doubles around it: an engine and peers that follow scripts, a house to furnish."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from edge_agent.guard.reading import Level
from edge_agent.messages import (
    Accepted,
    Delta,
    Done,
    Event,
    Events,
    Failed,
    FinishReason,
    Message,
    Policy,
    Request,
    Role,
    Timings,
    Usage,
)
from edge_agent.ops.health import State
from edge_agent.serving.admission import House, Rules
from edge_agent.serving.ledger import Ledger
from edge_agent.serving.models import Models
from edge_agent.serving.router import Router
from edge_agent.serving.sizing import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.errors import EdgeError
    from edge_agent.ops.story import Story

ACCEPTED = Accepted(prompt_tokens=7)
HERE = Accepted(prompt_tokens=7, reason="local")
DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=7, completion_tokens=2),
    timings=Timings(queue_s=0.0, prefill_s=1.0, decode_s=3.0),
)
TYPED = "what somebody typed"
CALM = House(state=State.READY, level=Level.CALM)
RULES = Rules(
    slots=1,
    queue_requests=1,
    queue_bytes=1 << 20,
    fallback="auto",
    policy=Policy.SITE,
    max_local_wait_s=None,
    min_prompt_tokens_for_peer=None,
)


class ScriptedBackend:
    """Yields its script; an exception in it is raised, None waits for good."""

    def __init__(self, *script: Event | Exception | None) -> None:
        self._script = script
        self.asked: list[Request] = []
        self.is_asked = asyncio.Event()
        self.closed = 0

    def then(self, *script: Event | Exception | None) -> None:
        """Answer by another script from now on."""
        self._script = script

    async def stream(self, request: Request) -> Events:
        self.asked.append(request)
        self.is_asked.set()
        try:
            for step in self._script:
                if step is None:
                    await asyncio.Event().wait()
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1


class ScriptedPeers(ScriptedBackend):
    """The same, as a peer called attic; without a script there is none."""

    def __init__(
        self,
        *script: Event | Exception | None,
        problem: str | None = None,
        refusal: EdgeError | None = None,
        barred: str = "",
    ) -> None:
        super().__init__(*script)
        self._barred = barred
        self._refusal = refusal
        self.is_usable = bool(script)
        self._problem = problem

    def usable(self, request: Request) -> int:
        return int(self.is_usable and request.policy is not Policy.LOCAL)

    def problem(self, request: Request) -> str | None:
        return None if request.policy is Policy.LOCAL else self._problem

    def barred(self, request: Request) -> str:
        return self._barred

    def refusal(self, request: Request) -> EdgeError | None:
        return self._refusal


class Notes:
    """Takes notes of what is counted."""

    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.stories: list[Story] = []

    def refused(self, reason: str) -> None:
        self.refusals.append(reason)

    def finished(self, story: Story) -> None:
        self.stories.append(story)


class Site:
    """A router, and what stands around it."""

    def __init__(
        self,
        engine: ScriptedBackend,
        peers: ScriptedPeers | None = None,
        *,
        house: House = CALM,
        rules: Rules = RULES,
        patience_s: float = 0.05,
        **more: Any,
    ) -> None:
        self.house = house
        self.engine = engine
        self.peers = peers or ScriptedPeers()
        self.notes = Notes()
        self.ledger = Ledger()
        self.sizes = Sizes()
        self.router = Router(
            engine,
            self.peers,
            models=Models("tiny", "tiny", {}),
            rules=rules,
            look=lambda: self.house,
            sizes=self.sizes,
            ledger=self.ledger,
            tally=self.notes,
            patience_s=patience_s,
            **more,
        )

    async def ask(self, asked: Request | None = None) -> list[Event]:
        """Return all events of a request."""
        return await events_of(self.router, asked or request())


def request(
    *,
    model: str | None = None,
    deadline_s: float | None = None,
    request_id: str = "r",
    prompt: str = TYPED,
    **more: Any,
) -> Request:
    """Return a request; `more` are further fields of it."""
    message = Message(role=Role.USER, content=prompt)
    return Request(id=request_id, messages=(message,), model=model, deadline_s=deadline_s, **more)


def answer_of(name: str, *pieces: str) -> tuple[Event, ...]:
    """Return the events of an answer that `name` gives."""
    return Accepted(prompt_tokens=None, served_by=name), *map(Delta, pieces), DONE


async def events_of(door: Router, asked: Request) -> list[Event]:
    """Return all events of a request."""
    async with aclosing(door.stream(asked)) as events:
        return [event async for event in events]


def codes(events: Sequence[Event]) -> list[str | None]:
    """Return the code of each failure, None for other events."""
    return [event.code if isinstance(event, Failed) else None for event in events]


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds; fail when it does not in time."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for knows no events
            await asyncio.sleep(0.002)

"""Doubles around the job queue: an engine that follows a script, an outlet that takes notes."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from edge_agent.config import Config
from edge_agent.messages import Accepted, Delta, Done, Failed, FinishReason, Timings, Usage
from edge_agent.serving.jobs import Jobs
from edge_agent.serving.journal import Journal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from edge_agent.errors import EdgeError
    from edge_agent.messages import Event, Events, Request
    from edge_agent.serving.clock import Moment
    from edge_agent.serving.job import Job, Result

PATIENCE_S = 10.0


def answer(*pieces: str) -> list[Event]:
    """Return the events of an answer in `pieces`."""
    done = Done(
        finish_reason=FinishReason.STOP,
        usage=Usage(prompt_tokens=3, completion_tokens=len(pieces)),
        timings=Timings(queue_s=0.0, prefill_s=0.1, decode_s=0.2),
    )
    return [Accepted(prompt_tokens=3), *map(Delta, pieces), done]


def crash_after(*pieces: str, error: EdgeError) -> list[Event]:
    """Return the events of an answer that breaks off with `error`."""
    return [Accepted(prompt_tokens=3), *map(Delta, pieces), Failed.of(error)]


class ScriptedBackend:
    """Answers each request by the next script for its prompt, else by the prompt in capitals.

    While `gate` is clear, answers stop after their first delta.
    """

    def __init__(self) -> None:
        self.scripts: dict[str, list[list[Event]]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.requests: list[Request] = []
        self.started: list[str] = []
        self.closed: list[str] = []
        self.together: list[frozenset[str]] = []
        self._now: set[str] = set()

    async def stream(self, request: Request) -> Events:
        """Yield the events of the script."""
        self.requests.append(request)
        self.started.append(request.id)
        self._now.add(request.id)
        self.together.append(frozenset(self._now))
        try:
            for event in self._script(request):
                yield event
                if isinstance(event, Delta):
                    await self.gate.wait()
        finally:
            self._now.discard(request.id)
            self.closed.append(request.id)

    async def was_asked(self, times: int) -> None:
        """Return when so many requests have come in."""
        await until(lambda: len(self.started) >= times)

    def _script(self, request: Request) -> list[Event]:
        prompt = request.messages[-1].content
        left = self.scripts.get(prompt, [])
        return left.pop(0) if left else answer(prompt.upper())


class _Notes:
    """Deltas, one message each."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def push(self, text: str) -> None:
        """Note a piece."""
        self._texts.append(text)

    def close(self) -> int:
        """Return how many there were."""
        return len(self._texts)


class NotingOutlet:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.largest_body_bytes = 1 << 20
        self.texts: dict[tuple[str, int], list[str]] = {}
        self.ready: list[int] = []

    def deltas(self, job: Job) -> _Notes:
        """Return where the deltas of this attempt go."""
        return _Notes(self.texts.setdefault((job.request.id, job.attempt), []))

    def result_ready(self, seq: int) -> None:
        """Note the news."""
        self.ready.append(seq)


class House:
    """A job queue with a scripted engine and a noting outlet."""

    def __init__(self, jobs: Jobs, journal: Journal, backend: ScriptedBackend) -> None:
        self.jobs = jobs
        self.journal = journal
        self.backend = backend
        self.outlet = NotingOutlet()
        jobs.attach(self.outlet)

    async def results(self, count: int) -> dict[str, dict[str, Any]]:
        """Return the stored results by id, once there are `count`."""
        found: list[Result] = []

        async def enough() -> bool:
            nonlocal found
            found = await self.journal.outbox(1000, ())
            return len(found) >= count

        await poll(enough)
        assert len(found) == count
        return {result.id: json.loads(result.body) for result in found}


@asynccontextmanager
async def house(
    directory: Path, now: Callable[[], Moment], config: Config | None = None
) -> AsyncIterator[House]:
    """Run a job queue on the journal in `directory`."""
    config = config or Config()
    journal = Journal(directory, config.journal, now)
    await journal.open()
    backend = ScriptedBackend()
    jobs = Jobs(config, journal, backend)
    try:
        yield House(jobs, journal, backend)
    finally:
        await jobs.close()
        await journal.close()


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; fail when it does not in time."""

    async def holds() -> bool:
        return condition()

    await poll(holds)


async def poll(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when `condition` holds; fail when it does not in time."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.005)

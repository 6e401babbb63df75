"""The engine as a `Backend`, and what may be asked of it: load, unload, hold, give memory back.

How its process lives is `life`'s matter, who waits for it `line`'s, who crashes it `blame`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from edge_agent.errors import EdgeError, Poison, Pressure, Recalled, Unsupported
from edge_agent.messages import Done, Failed
from edge_agent.ops.health import State
from edge_agent.worker.blame import Blame, fingerprint
from edge_agent.worker.giving_way import giving_way
from edge_agent.worker.life import Life
from edge_agent.worker.line import Line
from edge_agent.worker.link import AS_CONFIGURED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.config import Engine, Memory
    from edge_agent.messages import Events, Request
    from edge_agent.worker.child import Child, Stream
    from edge_agent.worker.link import Drafts, Ready
    from edge_agent.worker.standing import Standing


class Supervisor:
    """Runs engine processes, one at a time, and streams requests through them."""

    def __init__(
        self,
        limits: Engine,
        memory: Memory,
        standing: Standing,
        *,
        count_oom_kills: Callable[[], int | None],
        without_engine: State = State.FAILED,
    ) -> None:
        """`count_oom_kills` tells how many processes were ever killed for want of memory.

        None from it means that nobody can tell. `without_engine` is the state where this processor
        cannot run an engine at all.
        """
        self._limits = limits
        self._standing = standing
        self._blame = Blame()
        self._most_kept_bytes = AS_CONFIGURED_BYTES
        self.ready: Ready | None = None
        self._life = Life(
            limits,
            standing,
            keep_alive_s=None if memory.keep_alive == "forever" else memory.keep_alive,
            without_engine=without_engine,
            count_oom_kills=count_oom_kills,
            on_ready=self._on_ready,
            on_crash=self._on_crash,
        )
        self._line = Line(self._life, limits, standing)

    @property
    def on_oom(self) -> Callable[[str], None] | None:
        """Told how a process ended that was killed for want of memory, before the next starts."""
        return self._life.on_oom

    @on_oom.setter
    def on_oom(self, listener: Callable[[str], None] | None) -> None:
        self._life.on_oom = listener

    @property
    def is_alive(self) -> bool:
        """Whether the engine beats, or loads, or may be started again at any time."""
        return self._life.child is None or not self._life.child.is_overdue

    @property
    def child_pid(self) -> int | None:
        """The process id of the engine, if there is one."""
        return self._life.child.pid if self._life.child else None

    @property
    def restarts(self) -> int:
        """How often a process died that should not have."""
        return self._life.restarts

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(stream.is_started for stream in self._life.streams)

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot or for the engine itself."""
        inside = sum(not stream.is_started for stream in self._life.streams)
        return inside + self._life.num_waiting

    @property
    def load_left_s(self) -> float | None:
        """How long a load takes, less what of one has passed; None if none was measured."""
        return self._line.load_left_s

    async def run(self, command: Sequence[str]) -> NoReturn:
        """Have a process of `command` while one is wanted, until cancelled; none is left then."""
        await self._life.run(command)

    async def load(self) -> None:
        """Return once the model is loaded and requests are taken; its usual idle time begins anew.

        Raises:
            Unsupported: there is no model that could be.
            Loading: it is not within `load_wait_s`, or cannot be.
            Pressure: memory is critical.
        """
        if self._standing.state is State.RELAY:
            problem = f"no model can be loaded here: {self._standing.detail}"
            raise Unsupported(problem)
        self._life.stay.stay_as_usual()
        with self._line.joined():
            await self._line.served(self._limits.load_wait_s)

    async def unload(self, reason: str) -> None:
        """End the engine process and return when it is gone; `reason` is shown until the next load.

        Answers that were begun are given first, and new requests wait for the next process. Who
        stops waiting for this does not take it back.
        """
        over = self._life.over
        self._life.stay.send_away(reason)
        self._life.obey()
        await over.wait()

    def hold(self, reason: str, *, retry_after_s: float) -> None:
        """End the engine process at once and start none until `release`; `reason` is shown.

        What it worked on fails with `Pressure`, and so does what comes meanwhile; both are told to
        come back after `retry_after_s`.
        """
        self._life.stay.hold(reason, retry_after_s)
        self._life.obey()

    def release(self) -> None:
        """Let there be a process again; one is started if it was wanted before."""
        self._life.stay.release()
        self._life.obey()

    @property
    def running_tokens(self) -> int:
        """Tokens that running requests have in the KV cache."""
        return self._life.child.running_tokens if self._life.child else 0

    @property
    def kept_bytes(self) -> int:
        """Memory that the engine keeps of ended requests, and gives back when it has to."""
        return self._life.child.kept_bytes if self._life.child else 0

    @property
    def drafts(self) -> Drafts:
        """Guessed tokens of all engine processes so far."""
        return self._life.drafts

    def shrink_prefixes(self, to_bytes: int) -> None:
        """Have this engine and the next ones keep at most so much of ended requests.

        `AS_CONFIGURED_BYTES` lifts that.
        """
        self._most_kept_bytes = to_bytes
        child = self._life.child
        if child and child.ready:
            child.shrink_prefixes(to_bytes)

    def recall(self, reason: str, *, retry_after_s: float) -> int:
        """Fail with `Recalled` what waits for its first slot; return how many there were.

        Else each answer that gives way would make room for the next one to begin.
        """
        waiting = [stream for stream in self._life.streams if not stream.is_begun]
        return self._give_up(waiting, Recalled(reason, retry_after_s))

    def preempt(self, reason: str, *, retry_after_s: float, most: int = 1) -> int:
        """Fail up to `most` begun requests with `Pressure`; return how many there were.

        Those that had to pause for more urgent ones are among them: they would go on instead.
        """
        begun = [stream for stream in self._life.streams if stream.is_begun]
        places = giving_way([stream.request for stream in begun], most=most)
        return self._give_up([begun[i] for i in places], Pressure(reason, retry_after_s))

    def _give_up(self, streams: Sequence[Stream], error: EdgeError) -> int:
        for stream in streams:
            if self._life.child:
                self._life.child.give_up(stream, error)
        return len(streams)

    async def stream(self, request: Request) -> Events:
        """Yield the events of `request`; a loading engine is waited for.

        That is until its deadline, or up to `load_wait_s` if it has none.
        """
        mark = fingerprint(request)
        patience_s = self._limits.load_wait_s if request.deadline_s is None else request.deadline_s
        try:
            self._refuse_poison(mark)
            with self._line.joined():
                child = await self._line.served(patience_s)
                stream = child.open(request)
        except EdgeError as exc:
            yield Failed.of(exc)
            return
        try:
            is_over = False
            while not is_over:
                event = await stream.events.get()
                is_over = isinstance(event, Done | Failed)
                if isinstance(event, Done):
                    self._blame.answered(mark)
                yield event
        finally:
            child.close(stream)

    def _refuse_poison(self, mark: bytes) -> None:
        crashes = self._blame.crashes(mark)
        if crashes >= self._limits.max_crashes:
            raise Poison(crashes)

    def _on_ready(self, child: Child) -> None:
        self.ready = child.ready
        if self._most_kept_bytes < AS_CONFIGURED_BYTES:
            child.shrink_prefixes(self._most_kept_bytes)

    def _on_crash(self, running: Sequence[Stream]) -> None:
        self._blame.crashed(fingerprint(stream.request) for stream in running)

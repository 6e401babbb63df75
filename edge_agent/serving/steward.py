"""Acts on the level of memory, and tells the router how the engine and memory are.

SOFT: nothing new begins here while memory is short (the router sees that), what waits for a slot
goes back to the door, and what is kept of ended requests goes first of all. HARD: the newest of
those that run with the lowest priority gives way, and each second one more while memory is as
short; what begins after that is small. CRITICAL: the engine ends, and comes back when the level has
fallen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge_agent.guard.reading import ENTER_SHARE, Level, mark_bytes
from edge_agent.ops.health import State
from edge_agent.serving.admission import House
from edge_agent.worker.link import AS_CONFIGURED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.guard.memory import Memory
    from edge_agent.serving.ledger import Ledger
    from edge_agent.worker.standing import Standing

logger = logging.getLogger(__name__)

# Who gives way is told to come back when the level can have fallen, but not in an instant.
LEAST_RETRY_S = 5.0


# Calm looks, a second apart or less, after which kept prefixes have their whole budget again.
EASING_LOOKS = 300


def eased_bytes(kept_bytes: int, room_bytes: int | None) -> int:
    """Return what may be kept of ended requests while memory was short not long ago."""
    return kept_bytes + (room_bytes or 0) // 2


class Guard(Protocol):
    """What is asked of the guard (`edge_agent.guard.watch.Watch`)."""

    @property
    def level(self) -> Level:
        """How tight memory is."""
        ...

    @property
    def reason(self) -> str:
        """What brought the level."""
        ...

    @property
    def may_begin(self) -> bool:
        """Whether new work may begin."""
        ...

    @property
    def retry_after_s(self) -> float:
        """The least time after which new work may begin."""
        ...

    @property
    def room_bytes(self) -> int | None:
        """What new work may take; None if unknown."""
        ...

    @property
    def memory(self) -> Memory | None:
        """The last look."""
        ...

    def subscribe(self, listener: Callable[[Level], None]) -> None:
        """Call `listener` whenever the level changes."""
        ...

    def subscribe_short(self, listener: Callable[[], None]) -> None:
        """Call `listener` when HARD begins, and each second while memory is still as short."""
        ...

    def subscribe_look(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each look at memory."""
        ...

    def engine_killed(self) -> None:
        """Go to CRITICAL: the kernel killed the engine."""
        ...


class Engines(Protocol):
    """What is done to the engine (`edge_agent.worker.supervisor.Supervisor`)."""

    on_oom: Callable[[str], None] | None

    @property
    def kept_bytes(self) -> int:
        """Memory of ended requests that can be given back."""
        ...

    def shrink_prefixes(self, to_bytes: int) -> None:
        """Keep at most so much of ended requests from now on."""
        ...

    def hold(self, reason: str, *, retry_after_s: float) -> None:
        """End the process, and start none until `release`."""
        ...

    def release(self) -> None:
        """Let there be a process again."""
        ...

    def recall(self, reason: str, *, retry_after_s: float) -> int:
        """Take back what waits for a slot; return how many there were."""
        ...

    def preempt(self, reason: str, *, retry_after_s: float) -> int:
        """Take the newest request of the lowest priority back; return how many there were."""
        ...


@dataclass(slots=True)
class EngineNeeds:
    """The memory that the engine takes by itself."""

    engine_bytes: int = 0
    """Before any request, mapped weights apart."""
    shared_bytes: tuple[int, ...] = (0,)
    """Taken by the first steps with no, one, two … requests at once, up to all slots; it stays with
    the engine and serves those that come after.
    """
    had_bytes: int | None = None
    """What was available when the engine was last loaded."""

    @property
    def load_bytes(self) -> int:
        """What must be available before an engine that was ended for memory comes back.

        Never more than it was content with: a machine that is always too small by our arithmetic
        would else never have its engine again.
        """
        needed = self.engine_bytes + self.shared_bytes[-1]
        return needed if self.had_bytes is None else min(needed, self.had_bytes)


class Steward:
    """Stands between the guard and the engine."""

    def __init__(
        self,
        watch: Guard,
        supervisor: Engines,
        standing: Standing,
        ledger: Ledger,
        needs: EngineNeeds,
    ) -> None:
        self._watch = watch
        self._supervisor = supervisor
        self._standing = standing
        self._ledger = ledger
        self._is_holding = False
        self._looks_until_eased = 0
        self.context_tokens: int | None = None
        self._needs = needs
        standing.listen(self._note_load)
        supervisor.on_oom = self._struck

    def begin(self) -> None:
        """Act on the level that there is, and on every change from now on."""
        self._watch.subscribe(self._act)
        self._watch.subscribe_short(self._make_room)
        self._watch.subscribe_look(self._ease)
        self._act(self._watch.level)

    def look(self) -> House:
        """Return how the house is at this moment."""
        room_bytes = self._watch.room_bytes
        if room_bytes is not None:
            # A cache turns nobody away: what it takes goes as soon as it is missed.
            room_bytes += self._supervisor.kept_bytes
            room_bytes = max(0, room_bytes - self._ledger.promised_bytes - self._still_shared)
        return House(
            state=self._standing.state,
            detail=self._standing.detail,
            level=self._watch.level,
            room_bytes=room_bytes,
            most_bytes=self.most_bytes,
            context_tokens=self.context_tokens,
            may_begin=self._watch.may_begin,
        )

    @property
    def most_bytes(self) -> int | None:
        """What all requests together may take when nothing else runs on this machine."""
        memory = self._watch.memory
        if memory is None:
            return None
        mark = mark_bytes(memory, ENTER_SHARE[Level.SOFT])
        return max(0, memory.total_bytes - mark - self._needs.engine_bytes)

    @property
    def _still_shared(self) -> int:
        """What the engine will take when it answers more at once than it has since it loaded."""
        shared_bytes = self._needs.shared_bytes
        return shared_bytes[-1] - shared_bytes[min(self._ledger.most_read, len(shared_bytes) - 1)]

    def _note_load(self, state: State, _detail: str) -> None:
        if state is State.LOADING:
            self._ledger.engine_is_new()
            memory = self._watch.memory
            self._needs.had_bytes = None if memory is None else memory.available_bytes

    def _act(self, level: Level) -> None:
        if level is not Level.CALM:
            self._looks_until_eased = EASING_LOOKS
            self._supervisor.shrink_prefixes(0)
        elif not self._looks_until_eased:  # it was calm from the start
            self._supervisor.shrink_prefixes(AS_CONFIGURED_BYTES)
        if level is Level.CRITICAL:
            self._is_holding = True
            self._supervisor.hold(self._why(), retry_after_s=self._retry_after_s)
        elif self._is_holding:
            self._is_holding = False
            self._supervisor.release()
        elif not self._watch.may_begin:
            self._supervisor.recall(self._why(), retry_after_s=self._retry_after_s)

    def _ease(self) -> None:
        """After memory was short, let kept prefixes come back step by step.

        They may take half of the room that is left, so they alone never make memory short again.
        """
        if not self._looks_until_eased or self._watch.level is not Level.CALM:
            return
        self._looks_until_eased -= 1
        self._supervisor.shrink_prefixes(
            eased_bytes(self._supervisor.kept_bytes, self._watch.room_bytes)
            if self._looks_until_eased
            else AS_CONFIGURED_BYTES
        )

    def _make_room(self) -> None:
        """Have one request give way; none that waited in the engine begins in its place."""
        why, retry_after_s = self._why(), self._retry_after_s
        recalled = self._supervisor.recall(why, retry_after_s=retry_after_s)
        given = self._supervisor.preempt(why, retry_after_s=retry_after_s)
        if recalled or given:
            logger.info("requests gave way for memory running=%d waiting=%d", given, recalled)

    def _struck(self, _how: str) -> None:
        self._watch.engine_killed()

    def _why(self) -> str:
        return f"memory is {self._watch.level.name.lower()}: {self._watch.reason}"

    @property
    def _retry_after_s(self) -> float:
        return max(LEAST_RETRY_S, self._watch.retry_after_s)

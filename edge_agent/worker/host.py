"""The engine's own process: takes requests from the link, steps the engine, sends events back.

Only the main thread touches the engine and sends, so a heartbeat proves that the engine is alive.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from edge_agent.errors import EdgeError, Internal
from edge_agent.messages import Accepted, Event, Failed, Request
from edge_agent.ops import log
from edge_agent.ops.cores import cpus_to_keep_to
from edge_agent.worker.intake import Intake, Submit
from edge_agent.worker.link import (
    Beat,
    Cancel,
    Drafts,
    Emit,
    LoadFailed,
    Paused,
    Ready,
    Shrink,
    Started,
    Stop,
    ToParent,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.engine.answer import Prepared

logger = logging.getLogger(__name__)

# The daemon promises itself one a second; two survive any hiccup.
BEAT_S = 0.5
# Added to what the daemon has: the kernel shall take the engine, which comes back by itself.
OOM_SCORE_RISE = 500
OOM_SCORE_LIMIT = 1000  # the kernel's own
# A step that still runs when the daemon is gone is worth no more than this.
ORPHAN_GRACE_S = 1.0
OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")

PreparedT = TypeVar("PreparedT")


class Turn(Protocol):
    """Whose turn it is."""

    @property
    def started(self) -> Sequence[str]:
        """Ids of requests that have a slot from now on."""

    @property
    def paused(self) -> Sequence[str]:
        """Ids of those that gave theirs up, and will get one again."""


class StepEngine(Protocol[PreparedT]):
    """What the host needs of an engine; `edge_agent.engine.engine.Engine` is the real one."""

    name: str
    context: int
    slots: int
    threads: int

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do or to tell."""

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the requests that have a slot."""

    @property
    def waiting(self) -> int:
        """Number of requests without a slot."""

    @property
    def running_tokens(self) -> int:
        """Tokens that running requests have in the KV cache."""

    @property
    def kept_bytes(self) -> int:
        """Memory of what ended requests left behind, which `shrink_prefixes` gives back."""

    @property
    def drafted_tokens(self) -> int:
        """Guessed tokens that were verified, since the engine was loaded."""

    @property
    def accepted_tokens(self) -> int:
        """Those of them that came true."""

    def prepare(self, request: Request) -> PreparedT:
        """Do what needs no engine state, in any thread; raises EdgeError as a refusal."""

    def submit(self, prepared: PreparedT) -> Accepted:
        """Queue a request. Raises EdgeError as a refusal."""

    def cancel(self, request_id: str) -> None:
        """Stop working on a request, if it is here; the next step tells of its end."""

    def shrink_prefixes(self, to_bytes: int) -> int:
        """Keep at most so much of ended requests from now on; return the bytes that this freed."""

    def turn(self) -> Turn:
        """Decide who has a slot in the coming step."""

    def step(self) -> list[tuple[str, Event]]:
        """Compute one step and return the events it brought."""


class Host(Generic[PreparedT]):
    """The engine loop."""

    def __init__(
        self, engine: StepEngine[PreparedT], intake: Intake[PreparedT], link: socket.socket
    ) -> None:
        self._engine = engine
        self._intake = intake
        self._link = link
        self._out = bytearray()
        self._steps = 0
        self._last_beat_s = 0.0

    def run(self) -> None:
        """Serve until the daemon says stop or is gone; a bug in a step ends this with it."""
        while self._take_arrivals():
            if self._engine.busy:
                self._name_suspects()
                self._flush()  # a step that kills the process must not take these along
                self._emit(self._engine.step())
                self._steps += 1
            self._beat_when_due()
            self._flush()

    def _take_arrivals(self) -> bool:
        """Do what has arrived, waiting for it when idle; return False at the end."""
        for arrival in self._intake.take(wait_s=0 if self._engine.busy else BEAT_S):
            match arrival:
                case Stop():
                    return False
                case Submit(id=request_id, prepared=prepared):
                    self._submit(request_id, prepared)
                case Cancel(id=request_id):
                    self._engine.cancel(request_id)
                case Shrink(to_bytes=to_bytes):
                    self._engine.shrink_prefixes(to_bytes)
                case Emit():
                    self._send(arrival)
        return True

    def _submit(self, request_id: str, prepared: PreparedT) -> None:
        try:
            event: Event = self._engine.submit(prepared)
        except EdgeError as exc:
            event = Failed.of(exc)
        except Exception:
            logger.exception("bug while submitting id=%s", request_id)
            event = Failed.of(Internal())
        self._send(Emit(id=request_id, event=event))

    def _name_suspects(self) -> None:
        """Tell which requests get a slot in the coming step, and which are out of it."""
        turn = self._engine.turn()
        for request_id in turn.paused:
            self._send(Paused(id=request_id))
        for request_id in turn.started:
            self._send(Started(id=request_id))

    def _emit(self, events: list[tuple[str, Event]]) -> None:
        for request_id, event in events:
            self._send(Emit(id=request_id, event=event))

    def _beat_when_due(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_beat_s >= BEAT_S:
            self._last_beat_s = now_s
            running, waiting = len(self._engine.running), self._engine.waiting
            self._send(
                Beat(
                    steps=self._steps,
                    running=running,
                    waiting=waiting,
                    running_tokens=self._engine.running_tokens,
                    kept_bytes=self._engine.kept_bytes,
                    drafts=Drafts(
                        drafted=self._engine.drafted_tokens,
                        accepted=self._engine.accepted_tokens,
                    ),
                )
            )

    def _send(self, message: ToParent) -> None:
        self._out += encode(message)

    def _flush(self) -> None:
        if self._out:
            self._link.sendall(self._out)
            self._out.clear()


def serve(link_fd: int, load_engine: Callable[[], StepEngine[PreparedT]]) -> int:
    """Load an engine and serve it over the inherited socket `link_fd`; return the exit status."""
    with socket.socket(fileno=link_fd) as link, contextlib.suppress(ConnectionError):
        intake: Intake[PreparedT] = Intake(link, exit_on_end=_exit_soon)
        intake.start_reading()
        began_s = time.monotonic()
        try:
            engine = load_engine()
        except EdgeError as exc:
            link.sendall(encode(LoadFailed(message=str(exc))))
            return 1
        intake.start_preparing(engine.prepare)
        ready = Ready(
            model=engine.name,
            context=engine.context,
            slots=engine.slots,
            threads=engine.threads,
            load_s=time.monotonic() - began_s,
        )
        link.sendall(encode(ready))
        Host(engine, intake, link).run()
    return 0


def _exit_soon() -> None:
    """End the process, also from within a step: an orphan must not keep its memory."""
    time.sleep(ORPHAN_GRACE_S)
    os._exit(0)


def settle_in() -> None:
    """Make this process a good child: first to be killed, and ended by its daemon alone."""
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    score = min(OOM_SCORE_LIMIT, int(OOM_SCORE_FILE.read_text()) + OOM_SCORE_RISE)
    OOM_SCORE_FILE.write_text(str(score))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the real engine as the arguments say; the daemon writes them."""
    parser = argparse.ArgumentParser(prog="edge_agent.worker.host")
    parser.add_argument("--package", type=Path, required=True)
    for name in ("link-fd", "slots", "context", "chunk-tokens", "threads", "queue-requests"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("kept-pace", "ageing-s"):
        parser.add_argument(f"--{name}", type=float, required=True)
    parser.add_argument("--kv-dtype", default="fp32")
    parser.add_argument("--prefix-bytes", type=int)
    parser.add_argument("--pinned", type=Path)
    parser.add_argument("--draft-tokens", type=int, default=0)
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    args = parser.parse_args(argv)
    log.set_up(args.log_level, args.log_format)
    settle_in()
    # Before the model loads: its threads inherit it. A sandbox may forbid it: the kernel chooses.
    with contextlib.suppress(PermissionError):
        os.sched_setaffinity(0, cpus_to_keep_to(args.threads))

    def load() -> StepEngine[Prepared]:
        # Here and not above: tests serve another engine and load no model libraries.
        from edge_agent.engine.engine import Engine  # noqa: PLC0415
        from edge_agent.engine.pinned import read_pinned  # noqa: PLC0415

        return Engine(
            args.package,
            slots=args.slots,
            context=args.context,
            chunk_tokens=args.chunk_tokens,
            threads=args.threads,
            kv_dtype=args.kv_dtype,
            prefix_bytes=args.prefix_bytes,
            pinned=read_pinned(args.pinned),
            draft_tokens=args.draft_tokens,
            queue_requests=args.queue_requests,
            kept_pace=args.kept_pace,
            ageing_s=args.ageing_s,
        )

    return serve(args.link_fd, load)


if __name__ == "__main__":
    sys.exit(main())

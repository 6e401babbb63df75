"""An engine process without a model: the same host, loop and link, and an answer known beforehand.

Run as a script it stands in for `python -m edge_agent.worker.host`. What it answers follows from
the last message alone, so a test knows the only right text, whatever was killed on the way.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.errors import Cancelled, ModelError, Overloaded, PromptTooLong
from edge_agent.messages import (
    Accepted,
    Delta,
    Done,
    Event,
    Failed,
    FinishReason,
    Request,
    Timings,
    Usage,
)
from edge_agent.worker import host

if TYPE_CHECKING:
    from collections.abc import Sequence

DIE = "die at word"
DIE_FIRST = "die before a word"
HANG = "hang at word"
HOARD = "hoard at word"
HOARDED_BYTES = 8 << 20
BUG_IN_STEP = "bug in step"
BUG_IN_PREPARE = "bug in prepare"


def answer_of(prompt: str) -> str:
    """Return the whole answer to `prompt`: its words, last first, numbered."""
    return "".join(f"{i}:{word} " for i, word in enumerate(reversed(prompt.split())))


@dataclass
class _Job:
    request: Request
    prompt: str
    words: deque[str] = field(default_factory=deque)
    told: int = 0


@dataclass(frozen=True)
class Turn:
    started: Sequence[str]
    paused: Sequence[str] = ()


class TextEngine:
    """Gives one word of every running request in each step."""

    def __init__(self, *, slots: int, queue_requests: int, pace_s: float) -> None:
        self.name = "text"
        self.context = 1000
        self.slots = slots
        self.threads = 1
        self.kept_bytes = 0
        self.running_tokens = 0
        """A kilobyte for each request that ended, as far as it may be kept."""
        self.drafted_tokens = 0
        self.accepted_tokens = 0
        """As if of three guessed words two came true, in every answer."""
        self._most_kept_bytes = 1 << 62
        self._queue_requests = queue_requests
        self._pace_s = pace_s
        self._queue: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._told: list[tuple[str, Event]] = []

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._running or self._told)

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(job.request.id for job in self._running)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def prepare(self, request: Request) -> _Job:
        prompt = request.messages[-1].content
        if prompt == BUG_IN_PREPARE:
            raise RuntimeError(BUG_IN_PREPARE)
        words = [f"{word} " for word in answer_of(prompt).split()]
        if len(words) >= self.context:
            raise PromptTooLong(len(words), self.context - 1)
        return _Job(request, prompt, deque(words))

    def submit(self, prepared: _Job) -> Accepted:
        if len(self._queue) >= self._queue_requests:
            reason = "the queue is full"
            raise Overloaded(reason, 1.0)
        self._queue.append(prepared)
        return Accepted(prompt_tokens=len(prepared.words))

    def cancel(self, request_id: str) -> None:
        for jobs in (self._queue, self._running):
            for job in list(jobs):
                if job.request.id == request_id:
                    jobs.remove(job)
                    self._told.append((request_id, Failed.of(Cancelled())))

    def shrink_prefixes(self, to_bytes: int) -> int:
        before = self.kept_bytes
        self._most_kept_bytes = to_bytes
        self.kept_bytes = min(before, to_bytes)
        return before - self.kept_bytes

    def turn(self) -> Turn:
        started = []
        while self._queue and len(self._running) < self.slots:
            self._running.append(self._queue.popleft())
            started.append(self._running[-1].request.id)
        return Turn(started)

    def step(self) -> list[tuple[str, Event]]:
        told, self._told = self._told, []
        for job in list(self._running):
            told += [(job.request.id, event) for event in self._advance(job)]
        time.sleep(self._pace_s)
        return told

    def _advance(self, job: _Job) -> list[Event]:
        if job.prompt.startswith(DIE_FIRST):
            os.kill(os.getpid(), signal.SIGKILL)
        if job.told == 2:  # with the first words out and more to come
            _misbehave(job.prompt)
        limit = job.request.max_tokens or self.context
        if job.words and job.told < limit:
            job.told += 1
            return [Delta(job.words.popleft())]
        self._running.remove(job)
        self.kept_bytes = min(self.kept_bytes + 1000, self._most_kept_bytes)
        self.drafted_tokens += 3
        self.accepted_tokens += 2
        return [
            Done(
                finish_reason=FinishReason.LENGTH if job.words else FinishReason.STOP,
                usage=Usage(prompt_tokens=job.told, completion_tokens=job.told),
                timings=Timings(queue_s=0.0, prefill_s=0.0, decode_s=job.told * self._pace_s),
            )
        ]


def _misbehave(prompt: str) -> None:
    if prompt.startswith(DIE):
        os.kill(os.getpid(), signal.SIGKILL)
    if prompt.startswith(HANG):
        threading.Event().wait()
    if prompt.startswith(HOARD):
        hoard = []
        while True:  # until the kernel has had enough
            hoard.append(b"\1" * HOARDED_BYTES)
    if prompt.startswith(BUG_IN_STEP):
        raise RuntimeError(BUG_IN_STEP)


def main() -> int:
    """Serve as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--link-fd", type=int, required=True)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--queue-requests", type=int, default=32)
    parser.add_argument("--pace-s", type=float, default=0.0)
    parser.add_argument("--trouble", type=Path, help="while this file is there, loading fails")
    parser.add_argument("--slow", type=Path, help="while this file is there, loading goes on")
    parser.add_argument("--births", type=Path, help="a file that gets a 1 at each start")
    parser.add_argument("--wrong-processor", action="store_true", help="die as on a foreign one")
    args = parser.parse_args()
    if args.births:
        with args.births.open("a") as births:
            births.write("1")
    if args.wrong_processor:
        os.kill(os.getpid(), signal.SIGILL)
    host.settle_in()

    def load() -> TextEngine:
        if args.trouble and args.trouble.exists():
            raise ModelError(args.trouble.read_text())
        while args.slow and args.slow.exists():
            time.sleep(0.01)
        return TextEngine(slots=args.slots, queue_requests=args.queue_requests, pace_s=args.pace_s)

    return host.serve(args.link_fd, load)


if __name__ == "__main__":
    sys.exit(main())

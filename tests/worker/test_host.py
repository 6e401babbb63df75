"""The child's side of the link, in a thread of this process, with the text engine."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import Cancelled, ModelError
from edge_agent.messages import Accepted, Delta, Event, Failed, Message, Request, Role
from edge_agent.worker.host import Host
from edge_agent.worker.intake import Intake, Submit
from edge_agent.worker.link import (
    Beat,
    Cancel,
    Drafts,
    Emit,
    FrameReader,
    Paused,
    Run,
    Shrink,
    Started,
    Stop,
    ToChild,
    ToParent,
    encode,
)
from tests.worker.text_engine import Turn

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 20.0


class WordEngine:
    """One slot, one word a step; preparing waits for a gate."""

    name, context, slots, threads = "word", 100, 1, 1

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.is_preparing = threading.Event()
        self.steps_with: list[tuple[str, ...]] = []
        self.kept_bytes = 5000
        self.running_tokens = 40
        self.drafted_tokens, self.accepted_tokens = 30, 20
        self._queue: list[str] = []
        self._running: list[str] = []

    @property
    def busy(self) -> bool:
        return bool(self._queue or self._running)

    @property
    def running(self) -> tuple[str, ...]:
        return tuple(self._running)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def prepare(self, request: Request) -> str:
        self.is_preparing.set()
        self.gate.wait(PATIENCE_S)
        if request.id == "bad":
            reason = "bad prompt"
            raise ModelError(reason)
        return request.id

    def submit(self, prepared: str) -> Accepted:
        if prepared == "bug":
            raise RuntimeError(prepared)
        self._queue.append(prepared)
        return Accepted(prompt_tokens=1)

    def cancel(self, request_id: str) -> None:
        for ids in (self._queue, self._running):
            with contextlib.suppress(ValueError):
                ids.remove(request_id)

    def shrink_prefixes(self, to_bytes: int) -> int:
        self.kept_bytes = to_bytes
        return 0

    def turn(self) -> Turn:
        """Words that begin with "urgent" take the slot of others."""
        self._queue.sort(key=lambda name: not name.startswith("urgent"))
        paused = self._running if self._queue and self._queue[0].startswith("urgent") else []
        self._running = [name for name in self._running if name not in paused]
        started = [] if self._running else self._queue[:1]
        self._queue = [name for name in self._queue if name not in started] + paused
        self._running += started
        return Turn(started, paused)

    def step(self) -> list[tuple[str, Event]]:
        self.steps_with.append(self.running)
        return [(request_id, Delta("word ")) for request_id in self._running]


class Parent:
    """The daemon's end of the link, and the host that runs at the other."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self._ours = ours
        self._ours.settimeout(PATIENCE_S)
        self._frames = FrameReader(ToParent)
        self._unread: list[object] = []
        self.engine = WordEngine()
        self.intake: Intake[str] = Intake(theirs, exit_on_end=lambda: None)
        self.intake.start_reading()
        self.intake.start_preparing(self.engine.prepare)
        self._host = Host(self.engine, self.intake, theirs)
        self.thread = threading.Thread(target=self._run_host, daemon=True)
        self.thread.start()

    def _run_host(self) -> None:
        with contextlib.suppress(ConnectionError):  # as the process itself ends
            self._host.run()

    def send(self, *messages: ToChild) -> None:
        self._ours.sendall(b"".join(encode(message) for message in messages))

    def run(self, *ids: str) -> None:
        message = Message(role=Role.USER, content="x")
        self.send(*(Run(Request(id=name, messages=(message,))) for name in ids))

    def next(self, *, beats: bool = False) -> object:
        while True:
            while not self._unread:
                self._unread.extend(self._frames.feed(self._ours.recv(4096)))
            message = self._unread.pop(0)
            if beats == isinstance(message, Beat):
                return message


@pytest.fixture
def parent() -> Iterator[Parent]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        parent = Parent(ours, theirs)
        yield parent
        parent.engine.gate.set()
        parent.send(Stop())
        ours.close()
        parent.thread.join(PATIENCE_S)
        assert not parent.thread.is_alive()


def test_an_idle_host_beats(parent: Parent) -> None:
    drafts = Drafts(drafted=30, accepted=20)
    idle = Beat(steps=0, running=0, waiting=0, running_tokens=40, kept_bytes=5000, drafts=drafts)
    assert parent.next(beats=True) == idle
    assert parent.next(beats=True) == idle


def test_an_idle_host_gives_back_what_it_keeps(parent: Parent) -> None:
    parent.send(Shrink(to_bytes=700))
    beat = parent.next(beats=True)
    while not (isinstance(beat, Beat) and beat.kept_bytes == 700):
        beat = parent.next(beats=True)


def test_a_request_is_named_a_suspect_before_its_first_step(parent: Parent) -> None:
    parent.engine.gate.set()
    parent.run("r1")
    assert parent.next() == Emit(id="r1", event=Accepted(prompt_tokens=1))
    assert parent.next() == Started(id="r1")
    assert parent.next() == Emit(id="r1", event=Delta("word "))


def test_a_running_answer_goes_on_while_another_prompt_is_read(parent: Parent) -> None:
    parent.engine.gate.set()
    parent.run("r1")
    while parent.next() != Emit(id="r1", event=Delta("word ")):
        pass
    parent.engine.gate.clear()
    parent.engine.is_preparing.clear()
    parent.run("r2")
    assert parent.engine.is_preparing.wait(PATIENCE_S)
    steps = len(parent.engine.steps_with)
    while len(parent.engine.steps_with) < steps + 3:
        assert parent.next() == Emit(id="r1", event=Delta("word "))


def test_a_request_is_cancelled_while_its_prompt_is_read(parent: Parent) -> None:
    parent.run("r1", "r2")
    assert parent.engine.is_preparing.wait(PATIENCE_S)
    parent.send(Cancel("r1"), Cancel("r2"))
    endings = [parent.next(), parent.next()]
    parent.engine.gate.set()
    parent.run("r3")
    assert endings == [
        Emit(id="r1", event=Failed.of(Cancelled())),
        Emit(id="r2", event=Failed.of(Cancelled())),
    ]
    assert parent.next() == Emit(id="r3", event=Accepted(prompt_tokens=1))


def test_a_cancelled_request_frees_its_slot(parent: Parent) -> None:
    parent.engine.gate.set()
    parent.run("r1", "r2")
    while parent.next() != Emit(id="r1", event=Delta("word ")):
        pass
    parent.send(Cancel("r1"))
    while parent.next() != Started(id="r2"):
        pass
    assert parent.next() == Emit(id="r2", event=Delta("word "))


def test_who_gives_its_slot_up_is_no_suspect_until_it_goes_on(parent: Parent) -> None:
    parent.engine.gate.set()
    parent.run("r1")
    while parent.next() != Emit(id="r1", event=Delta("word ")):
        pass
    parent.run("urgent")
    while (message := parent.next()) != Paused(id="r1"):
        assert message != Started(id="urgent")
    assert parent.next() == Started(id="urgent")
    parent.send(Cancel("urgent"))
    while parent.next() != Started(id="r1"):
        pass
    assert parent.next() == Emit(id="r1", event=Delta("word "))


@pytest.mark.parametrize(("name", "code"), [("bad", "model_unusable"), ("bug", "internal")])
def test_a_refusal_and_a_bug_end_that_request_alone(parent: Parent, name: str, code: str) -> None:
    parent.engine.gate.set()
    parent.run(name, "r1")
    refusal = parent.next()
    assert isinstance(refusal, Emit)
    assert isinstance(refusal.event, Failed)
    assert (refusal.id, refusal.event.code) == (name, code)
    assert parent.next() == Emit(id="r1", event=Accepted(prompt_tokens=1))


def test_garbage_on_the_link_is_its_end() -> None:
    ours, theirs = socket.socketpair()
    ended = threading.Event()
    with ours, theirs:
        intake: Intake[str] = Intake(theirs, exit_on_end=ended.set)
        intake.start_reading()
        ours.sendall(b"\x00\x00\x00\x01\xc1")
        assert list(intake.take(wait_s=PATIENCE_S)) == [Stop()]
        assert ended.wait(PATIENCE_S)


def test_what_arrives_comes_out_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        intake: Intake[str] = Intake(theirs, exit_on_end=lambda: None)
        assert list(intake.take(wait_s=0)) == []
        intake._arrived.put(Submit("a", "a"))
        intake._arrived.put(Cancel("a"))
        assert list(intake.take(wait_s=0)) == [Submit("a", "a"), Cancel("a")]

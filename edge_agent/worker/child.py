"""One engine process from start to end, and the streams it answers.

Knows the link and nothing of restarts: how it ended is returned to the supervisor.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING, cast

import msgspec

from edge_agent.messages import Done, Event, Failed, Request
from edge_agent.ops.process import is_ending
from edge_agent.worker.ending import Exit, in_words
from edge_agent.worker.link import (
    Beat,
    Cancel,
    Drafts,
    Emit,
    FrameReader,
    LinkBroken,
    LoadFailed,
    Paused,
    Ready,
    Run,
    Shrink,
    Started,
    Stop,
    ToChild,
    ToParent,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from edge_agent.errors import EdgeError

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 16
# Hashing and mapping several gigabytes from an SD card takes minutes; a quarter of an hour is a
# hang.
LOAD_LIMIT_S = 900.0
# The child has nothing to save; what is not gone by then is stuck in a step.
EXIT_LIMIT_S = 3.0
# A stalled child is killed and reaped within this, or whoever should do that is stuck itself.
KILL_GRACE_S = 10.0


class Stream:
    """One open request: its events, and whether it holds a slot."""

    def __init__(self, link_id: str, request: Request) -> None:
        self.link_id = link_id
        self.request = request
        # Unbounded is bounded here: a request has at most one event for each token of the context.
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.is_started = False
        self.is_begun = False
        """It had a slot, and may have said something: now, or before another was more urgent."""


class Child:
    """A running engine process."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_over: Callable[[Request], None],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._on_over = on_over
        self._streams: dict[str, Stream] = {}
        self._numbers = itertools.count(1)
        self._is_stalled = False
        self._was_shot = False  # by us, whatever the reason, and before anybody else
        self._silent_until_s = time.monotonic() + LOAD_LIMIT_S
        self.ready: Ready | None = None
        self.load_failure: str | None = None
        self.running_tokens = 0
        """Tokens that running requests have in the KV cache, as of its last beat."""
        self.kept_bytes = 0
        """Memory that the engine can give back at once, as of its last beat."""
        self.drafts = Drafts()
        """Of this process, as of its last beat."""
        self.is_dismissed = False
        """It was ended because it was not wanted; that is no crash."""

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_overdue(self) -> bool:
        """Whether the child was silent for so long that it should be gone by now."""
        return time.monotonic() > self._silent_until_s + KILL_GRACE_S

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The open requests, oldest first."""
        return tuple(self._streams.values())

    @classmethod
    async def start(cls, command: Sequence[str], *, on_over: Callable[[Request], None]) -> Child:
        """Start `command` with `--link-fd N` appended, N being its end of the link.

        `on_over` is told of every request that the process need not work on any more.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    f"--link-fd={theirs.fileno()}",
                    pass_fds=(theirs.fileno(),),
                    stdin=asyncio.subprocess.DEVNULL,
                    # Ctrl-C is for the daemon; it decides when its engine ends.
                    process_group=0,
                )
            except BaseException:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours, limit=READ_BYTES)
        return cls(process, reader, writer, on_over)

    async def live(self, *, stall_limit_s: float, on_ready: Callable[[Ready], None]) -> Exit:
        """Pass events on until the process ends; return what is known of that.

        Everything the child sends comes from its engine loop, so silence is a stall.
        """
        frames = FrameReader(ToParent)
        try:
            while data := await self._read(stall_limit_s if self.ready else LOAD_LIMIT_S):
                for message in frames.feed(data):
                    self._take(cast("ToParent", message), on_ready)
        except LinkBroken as exc:
            logger.exception("engine link broken pid=%d", self.pid)
            return self._exit(await self._end(kill=True), f"link broken: {exc}")
        finally:
            self._writer.close()
        code = await self._end(kill=self._is_stalled)
        return self._exit(code, "stalled, killed" if self._is_stalled else in_words(code))

    def _exit(self, code: int, how: str) -> Exit:
        return Exit(
            code=code,
            how=how,
            was_ready=self.ready is not None,
            load_failure=self.load_failure,
            is_dismissed=self.is_dismissed,
            was_killed=code == -signal.SIGKILL and not self._was_shot,
        )

    async def _read(self, silence_limit_s: float) -> bytes:
        self._silent_until_s = time.monotonic() + silence_limit_s
        try:
            async with asyncio.timeout(silence_limit_s):
                return await self._reader.read(READ_BYTES)
        except TimeoutError:
            logger.error("engine stalled pid=%d silent_s=%.0f", self.pid, silence_limit_s)  # noqa: TRY400  # a trace would show this line only
            self._is_stalled = True
            return b""
        except ConnectionError:
            return b""  # the process died with unread requests in its socket

    def _take(self, message: ToParent, on_ready: Callable[[Ready], None]) -> None:
        match message:
            case Emit(id=link_id, event=event):
                self._deliver(link_id, event)
            case Started(id=link_id) | Paused(id=link_id):
                if stream := self._streams.get(link_id):
                    stream.is_started = isinstance(message, Started)
                    stream.is_begun = True
            case Beat():  # its arrival is most of its meaning
                self.running_tokens = message.running_tokens
                self.kept_bytes, self.drafts = message.kept_bytes, message.drafts
            case Ready():
                self.ready = message
                on_ready(message)
            case LoadFailed():
                self.load_failure = message.message

    def _deliver(self, link_id: str, event: Event) -> None:
        # No stream: its reader left, and the cancel is on its way to the child.
        if stream := self._streams.get(link_id):
            stream.events.put_nowait(event)
            if isinstance(event, Done | Failed):
                self._forget(stream)

    def open(self, request: Request) -> Stream:
        """Send `request` to the engine and return its stream."""
        # Clients choose ids, and two may choose the same: on the link each has its own.
        link_id = f"{request.id}#{next(self._numbers)}"
        stream = self._streams[link_id] = Stream(link_id, request)
        self._send(Run(msgspec.structs.replace(request, id=link_id)))
        return stream

    def close(self, stream: Stream) -> None:
        """Forget `stream`; if its request is not over, the engine stops working on it."""
        if stream.link_id in self._streams:
            self._send(Cancel(stream.link_id))
            self._forget(stream)

    def give_up(self, stream: Stream, error: EdgeError) -> None:
        """End `stream` with `error`; the engine stops working on its request."""
        self._send(Cancel(stream.link_id))
        self._deliver(stream.link_id, Failed.of(error))

    def shrink_prefixes(self, to_bytes: int) -> None:
        """Have the engine keep at most so much KV cache of ended requests from now on."""
        self._send(Shrink(to_bytes=to_bytes))

    def fail(self, error: EdgeError) -> None:
        """End every open stream with `error`."""
        for stream in self.streams:
            self._deliver(stream.link_id, Failed.of(error))

    def _forget(self, stream: Stream) -> None:
        del self._streams[stream.link_id]
        self._on_over(stream.request)

    def dismiss(self) -> None:
        """End the process at once because it is not wanted; `live` returns when it is gone."""
        self.is_dismissed = True
        self.kill()

    def kill(self) -> None:
        """End the process at once, unless something else just did.

        That the kernel did may not have been heard yet. Signalling it then would be wrong twice:
        `subprocess` reaps what it finds dead, and how it died would be lost to who waits for it.
        """
        if self._process.returncode is None and not is_ending(self.pid):
            self._was_shot = True
            self._process.kill()

    async def stop(self) -> None:
        """Ask the process to end, then insist; it is reaped when this returns."""
        self._send(Stop())
        await self._end(kill=False)
        self._writer.close()

    def _send(self, message: ToChild) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _end(self, *, kill: bool) -> int:
        """Wait for the end of the process, killing it when it must or does not come."""
        if kill:
            self.kill()
        try:
            async with asyncio.timeout(EXIT_LIMIT_S):
                return await self._process.wait()
        except TimeoutError:
            self.kill()
            return await self._process.wait()

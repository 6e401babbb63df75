"""The receiving half of the engine process: a thread that reads frames, a thread that tokenizes.

What the engine loop has to do comes out of one queue, in order, ready to be done.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from edge_agent.errors import Cancelled, EdgeError, Internal
from edge_agent.messages import Failed, Request
from edge_agent.worker.link import Cancel, Emit, FrameReader, LinkBroken, Run, Shrink, Stop, ToChild

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

READ_BYTES = 1 << 20

PreparedT = TypeVar("PreparedT")


@dataclass(frozen=True, slots=True)
class Submit(Generic[PreparedT]):
    """A tokenized request for the engine."""

    id: str
    prepared: PreparedT


class Intake(Generic[PreparedT]):
    """Everything the daemon asks for, as a queue.

    `Emit` is a refusal to be sent as it is: a bad prompt, or one cancelled before it was read.
    """

    def __init__(self, link: socket.socket, exit_on_end: Callable[[], None]) -> None:
        """`exit_on_end` is called by the reading thread when nobody is at the other end."""
        self._link = link
        self._exit_on_end = exit_on_end
        self._arrived: SimpleQueue[Submit[PreparedT] | Emit | Cancel | Shrink | Stop] = (
            SimpleQueue()
        )
        self._unread: SimpleQueue[Request] = SimpleQueue()
        self._lock = threading.Lock()
        self._preparing: set[str] = set()

    def start_reading(self) -> None:
        """Watch the link; its end ends this process, even while the model still loads."""
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    def start_preparing(self, prepare: Callable[[Request], PreparedT]) -> None:
        """Turn requests into what the engine takes, with `prepare`, off the engine's thread."""
        threading.Thread(
            target=self._prepare_all, args=(prepare,), name="preparer", daemon=True
        ).start()

    def take(self, wait_s: float) -> Iterator[Submit[PreparedT] | Emit | Cancel | Shrink | Stop]:
        """Yield what has arrived; if that is nothing, wait up to `wait_s` for the first."""
        try:
            yield self._arrived.get(timeout=wait_s) if wait_s else self._arrived.get_nowait()
            while True:
                yield self._arrived.get_nowait()
        except Empty:
            return

    def _read(self) -> None:
        frames = FrameReader(ToChild)
        try:
            while data := self._link.recv(READ_BYTES):
                for message in frames.feed(data):
                    self._sort(cast("ToChild", message))
        except (OSError, LinkBroken) as exc:
            logger.warning("link to the daemon lost error=%s", exc)
        self._arrived.put(Stop())
        self._exit_on_end()

    def _sort(self, message: ToChild) -> None:
        match message:
            case Run(request=request):
                with self._lock:
                    self._preparing.add(request.id)
                self._unread.put(request)
            case Cancel(id=request_id) if self._leave(request_id):
                self._arrived.put(Emit(id=request_id, event=Failed.of(Cancelled())))
            case Cancel() | Shrink() | Stop():
                self._arrived.put(message)

    def _leave(self, request_id: str) -> bool:
        """Take `request_id` out of preparation; return whether it was still in it."""
        with self._lock:
            if request_id not in self._preparing:
                return False
            self._preparing.remove(request_id)
            return True

    def _prepare_all(self, prepare: Callable[[Request], PreparedT]) -> None:
        while True:
            request = self._unread.get()
            if request.id not in self._preparing:
                continue  # cancelled before its turn
            arrival = _prepared(request, prepare)
            if self._leave(request.id):
                self._arrived.put(arrival)


def _prepared(
    request: Request, prepare: Callable[[Request], PreparedT]
) -> Submit[PreparedT] | Emit:
    try:
        return Submit(request.id, prepare(request))
    except EdgeError as exc:
        return Emit(id=request.id, event=Failed.of(exc))
    except Exception:
        logger.exception("bug while preparing id=%s", request.id)
        return Emit(id=request.id, event=Failed.of(Internal()))

"""One exchange with a peer: a request goes there, an answer comes back, each wait has a limit."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from edge_agent.errors import (
    DeadlineExceeded,
    EdgeError,
    Forbidden,
    PeerFailed,
    TooLongForPeer,
)
from edge_agent.modelstore.retry import asked_s
from edge_agent.serving.peers import ollama_call, openai_call
from edge_agent.serving.peers.door import Broken, NoConnection
from edge_agent.serving.peers.hops import HOPS_HEADER, POLICY_HEADER
from edge_agent.serving.peers.ollama_reply import OllamaReader
from edge_agent.serving.peers.openai_reply import OpenAiReader
from edge_agent.serving.peers.reply import BadCall, Expected, Nonsense, TooLong, check_calls, told
from edge_agent.serving.peers.trouble import Kind, Trouble, by_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from edge_agent.config import Peer
    from edge_agent.serving.peers.answer_reader import AnswerReader
    from edge_agent.serving.peers.capability import Flavour
    from edge_agent.serving.peers.door import Door, Reply
    from edge_agent.serving.peers.errand import Errand
    from edge_agent.serving.peers.reply import Piece

# Why a peer says no is worth a moment, not more.
_COMPLAINT_S = 1.0
_ID_BYTES = 12

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What one peer is asked."""

    errand: Errand
    flavour: Flavour
    names: frozenset[str]
    """What the peer may call the model in its answer."""
    deadline_s: float | None
    """A reading of the clock."""
    context_tokens: int | None = None
    """The context that Ollama is asked to give the model."""


class Exchange:
    """One request on its way to a peer, and its answer on the way back."""

    def __init__(
        self, settings: Peer, door: Door, order: Order, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._door = door
        self._order = order
        self._clock = clock
        self._reader = OllamaReader if settings.kind == "ollama" else OpenAiReader
        self._first_limit_s = clock() + settings.first_byte_timeout_s
        self._heard_s = 0.0

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """Yield the pieces of the answer, `End` last.

        Closing the generator ends the connection, by which the peer is told to stop.

        Raises:
            Trouble: there is no (further) answer.
        """
        reply = await self._within(self._first_limit_s, self._post())
        try:
            await self._check(reply)
            order = self._order
            expected = Expected.of(order.errand.request, order.names, order.context_tokens)
            read = self._read(reply, self._reader(expected, _new_id))
            async with aclosing(_held(read) if expected.must_call else read) as pieces:
                async for piece in pieces:
                    yield piece
        except BadCall as exc:
            error = PeerFailed(self._settings.name, str(exc))
            raise Trouble(Kind.UNFIT, error, "bad call") from exc
        except TooLong as exc:
            too_long = TooLongForPeer(self._settings.name, str(exc))
            raise Trouble(Kind.UNFIT, too_long, "too long") from exc
        except Nonsense as exc:
            raise self._wrong(str(exc), "nonsense") from exc
        except Broken as exc:
            problem = f"broke off: {exc}"
            raise self._wrong(problem, "broke off") from exc
        finally:
            reply.close()

    async def _read(self, reply: Reply, reader: AnswerReader) -> AsyncGenerator[Piece, None]:
        while not reader.is_over:
            data = await self._within(self._limit_s(reader), reply.read_some())
            signs = reader.signs_of_life
            for piece in reader.feed(data) if data else reader.finish():
                yield piece
            if reader.signs_of_life > signs:
                self._heard_s = self._clock()

    async def _post(self) -> Reply:
        settings, errand = self._settings, self._order.errand
        headers = {
            HOPS_HEADER: str(errand.request.hops + 1),
            POLICY_HEADER: errand.policy.value,
            "X-Request-Id": errand.request.id,
        }
        path, body = self._call()
        try:
            return await self._door.post(path, body, policy=errand.policy, headers=headers)
        except NoConnection as exc:
            error = PeerFailed(settings.name, f"cannot be reached: {exc}")
            raise Trouble(Kind.AWAY, error, f"cannot be reached: {exc}") from exc
        except Broken as exc:
            problem = f"did not answer: {exc}"
            raise self._wrong(problem, "no answer") from exc
        except Forbidden as exc:
            raise Trouble(Kind.UNFIT, exc, "not allowed") from exc

    def _call(self) -> tuple[str, dict[str, Any]]:
        order, model = self._order, self._settings.model
        request = order.errand.request
        if self._settings.kind == "ollama":
            body = ollama_call.body(request, model=model, context_tokens=order.context_tokens)
            return ollama_call.PATH, body
        left_s = None if order.deadline_s is None else order.deadline_s - self._clock()
        body = openai_call.body(request, model=model, flavour=order.flavour, left_s=left_s)
        return openai_call.PATH, body

    async def _check(self, reply: Reply) -> None:
        """Look at the head of the reply.

        Raises:
            Trouble: it is not the head of an answer.
        """
        if reply.status != HTTPStatus.OK:
            body = b""
            with suppress(Broken, TimeoutError):
                async with asyncio.timeout(_COMPLAINT_S):
                    body = await reply.read_all()
            asked = asked_s(reply.retry_after, time.time())
            raise by_status(self._settings.name, reply.status, body, asked)
        if reply.media_type != self._reader.media_type:
            found = told(reply.media_type, 60)
            problem = f"answers with {found}, not with {self._reader.media_type}"
            raise self._wrong(problem, "nonsense")

    def _limit_s(self, reader: AnswerReader) -> float:
        """Return until when the next bytes must be here."""
        if not reader.has_begun:
            return self._first_limit_s
        return self._heard_s + self._settings.idle_timeout_s

    async def _within(self, limit_s: float, work: Awaitable[T]) -> T:
        """Return what `work` comes to by `limit_s` and the deadline.

        Raises:
            Trouble: time is up.
        """
        deadline_s = self._order.deadline_s
        is_last = deadline_s is not None and deadline_s <= limit_s
        until_s = deadline_s if is_last and deadline_s is not None else limit_s
        try:
            async with asyncio.timeout(max(0.0, until_s - self._clock())):
                return await work
        except TimeoutError as exc:
            if is_last:
                error = DeadlineExceeded(self._order.errand.request.deadline_s or 0.0)
                raise Trouble(Kind.LATE, error, "deadline") from exc
            problem = "went silent"
            raise self._wrong(problem, problem) from exc

    def _wrong(self, problem: str, cause: str) -> Trouble:
        error: EdgeError = PeerFailed(self._settings.name, problem)
        return Trouble(Kind.WRONG, error, cause)


async def _held(pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of an answer that has to call a tool, once it is known that it does."""
    async with aclosing(pieces):
        held = [piece async for piece in pieces]
    check_calls(held)
    for piece in held:
        yield piece


def _new_id() -> str:
    """Return an id for a call that came without one."""
    return f"call_{secrets.token_hex(_ID_BYTES)}"

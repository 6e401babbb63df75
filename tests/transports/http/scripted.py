"""A real server on a real socket, with a scripted backend behind it."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from edge_agent.config import Config
from edge_agent.messages import Accepted, Delta, Done, FinishReason, Timings, Usage
from edge_agent.ops.health import Health, Served, State
from edge_agent.transports.http.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from edge_agent.messages import Event, Events, Request

DONE = Done(
    finish_reason=FinishReason.STOP,
    usage=Usage(prompt_tokens=7, completion_tokens=3),
    timings=Timings(queue_s=0.5, prefill_s=1.0, decode_s=2.0),
)
ANSWER = (Accepted(prompt_tokens=7), Delta("Hel"), Delta("lo 🙂"), DONE)
HI = {"messages": [{"role": "user", "content": "hi"}]}
HEALTH = Health(
    state=State.READY,
    detail="",
    version="0.0.0",
    model="tiny",
    models=(Served(name="tiny", created=1_700_000_000, context_tokens=4096),),
    uptime_s=1.0,
    slots=4,
    running=0,
    waiting=0,
    engine_restarts=0,
    jobs_open=0,
    durability="full",
    mqtt="off",
    answers=("local",),
)


class Engine:
    """Is loaded and unloaded, and remembers it; an unload can take as long as it is told to."""

    def __init__(self, trouble: Exception | None = None, *, is_busy: bool = False) -> None:
        self._trouble = trouble
        self._is_busy = is_busy
        self.orders: list[str] = []

    async def load(self) -> None:
        if self._trouble:
            raise self._trouble
        self.orders.append("load")

    async def unload(self, reason: str) -> None:
        self.orders.append(f"unload: {reason}")
        if self._is_busy:
            await asyncio.Event().wait()


class ScriptedBackend:
    """Answers every request with the same events; can hold one back until it is told to go."""

    def __init__(self, *events: Event | Exception, hold_before: int | None = None) -> None:
        self._events: Sequence[Event | Exception] = events or ANSWER
        self._hold_before = hold_before
        self.go = asyncio.Event()
        self.requests: list[Request] = []
        self.closed = 0

    async def stream(self, request: Request) -> Events:
        self.requests.append(request)
        try:
            for index, event in enumerate(self._events):
                if index == self._hold_before:
                    await self.go.wait()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed += 1


class Site:
    """A running server and a client session that speaks to it."""

    def __init__(self, server: HttpServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.host, self.port = server.addresses[0]
        self.url = f"http://{self.host}:{self.port}"

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.session.get(self.url + path, headers=_names(headers))

    async def post(self, path: str, body: object, **headers: str) -> aiohttp.ClientResponse:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self.session.post(
            self.url + path, data=io.BytesIO(data), headers=_names(headers)
        )

    async def chat(self, **fields: object) -> aiohttp.ClientResponse:
        return await self.post("/v1/chat/completions", {**HI, **fields})


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def config(**http: Any) -> Config:
    return msgspec.convert(
        {"model": "tiny", "mqtt": {"node": "gw1"}, "http": {"listen": ["127.0.0.1:0"], **http}},
        Config,
    )


@asynccontextmanager
async def serving(
    backend: ScriptedBackend | None = None,
    *,
    health: Health = HEALTH,
    engine: Engine | None = None,
    **http: Any,
) -> AsyncIterator[Site]:
    """Serve `backend` for the length of the block."""
    server = HttpServer(
        config(**http),
        backend or ScriptedBackend(),
        lambda: health,
        lambda: b"counted 1\n",
        engine or Engine(),
    )
    await server.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield Site(server, session)
    finally:
        await server.close()


async def raw(site: Site, data: bytes, *, limit_s: float = 10.0) -> bytes:
    """Send `data` as it is; return everything that comes until the server hangs up.

    A server that hangs up while we still send cuts off its own last words: nothing came then.
    """
    reader, writer = await asyncio.open_connection(site.host, site.port)
    try:
        async with asyncio.timeout(limit_s):
            writer.write(data)
            await writer.drain()
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def until(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Return once `condition` holds; fail when it does not in time."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # what is waited for knows no events
            await asyncio.sleep(0.005)

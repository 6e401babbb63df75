"""Bytes that no good client sends: a clear answer or a closed door, and a server that goes on."""

from __future__ import annotations

import asyncio
import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.messages import Accepted, Delta
from edge_agent.transports.http import protocol, receive, streaming
from tests.transports.http.scripted import HI, ScriptedBackend, Site, raw, serving, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"


@asynccontextmanager
async def unharmed(backend: ScriptedBackend | None = None, **http: Any) -> AsyncIterator[Site]:
    """Serve; after the block a good request must still be answered."""
    async with serving(backend, **http) as site:
        yield site
        assert (await site.get("/health")).status == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_request"),
        (b"hello", 400, "invalid_request"),
        (b'{"messages": "\xff"}', 400, "invalid_request"),
        (b"[" * 100_000, 400, "invalid_request"),
        (b'{"messages": []}', 400, "invalid_request"),
        (b'{"messages": [{"role": "user", "content": "x"}], "top_p": 1e999}', 400,
         "invalid_request"),
        (b"x" * (10 << 20), 413, "too_large"),
    ],
    ids=["empty", "no json", "no utf-8", "deep", "no messages", "infinite", "10 MB"],
)  # fmt: skip
async def test_a_bad_body_has_a_clear_error(body: bytes, status: int, code: str) -> None:
    backend = ScriptedBackend()
    async with unharmed(backend) as site:
        answer = await site.post("/v1/chat/completions", body)
        assert answer.status == status
        assert (await answer.json())["error"]["code"] == code
    assert not backend.requests


async def test_a_costly_body_does_not_hold_up_the_others() -> None:
    body = b'{"messages": [' + b",".join([b"[]"] * 300_000) + b"]}"
    async with unharmed() as site:
        costly = asyncio.create_task(site.post("/v1/chat/completions", body))
        served = 0
        while not costly.done():
            served += (await site.get("/health")).status == 200
        assert (await costly).status == 413
    # A server that is busy with the body would get to two or three.
    assert served > 5


async def test_a_body_at_the_limit_is_read() -> None:
    async with serving(max_body_bytes=2048) as site:
        empty = len(json.dumps({"messages": [{"role": "user", "content": ""}]}))
        for extra, status in ((0, 200), (1, 413)):
            content = "x" * (2048 - empty + extra)
            body = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
            assert (await site.post("/v1/chat/completions", body)).status == status


async def test_a_chunked_body_over_the_limit_is_refused() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 65536

    async with unharmed() as site:
        answer = await site.session.post(f"{site.url}/v1/chat/completions", data=endless())
        assert answer.status == 413


async def test_a_hundred_thousand_tiny_chunks_are_one_body() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "x" * 100_000}]}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with unharmed() as site:
        head = POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert (await raw(site, head + chunks, limit_s=60)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_a_compressed_body_is_refused_and_never_inflated(encoding: str) -> None:
    bomb = gzip.compress(b"0" * (32 << 20))
    async with unharmed() as site:
        answer = await site.post("/v1/chat/completions", bomb, Content_Encoding=encoding)
        assert answer.status == 400
        assert (await answer.json())["error"]["param"] == "Content-Encoding"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"400"),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", b"400"),
        (POST + b"Content-Length: -1\r\n\r\n", b"400"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", b"431"),
    ],
    ids=["words", "tls", "header", "cl+te", "two cl", "negative cl", "chunk", "two hosts",
         "long path", "long header"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_and_the_connection_closed(
    request_bytes: bytes, status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with unharmed() as site:
        answer = await raw(site, request_bytes)
    assert answer.split()[1] == status
    assert len(answer) < 1000
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "WARNING")]


async def test_too_many_headers_are_refused() -> None:
    many = b"".join(b"X-%d: 1\r\n" % index for index in range(5000))
    async with unharmed() as site:
        assert (await raw(site, POST + many + b"\r\n")).split()[1] == b"400"


async def test_an_endless_header_is_not_collected() -> None:
    async with unharmed() as site:
        answer = await raw(site, b"GET / HTTP/1.1\r\nX: " + b"x" * (16 << 20))
    assert answer == b"" or answer.split()[1] == b"431"


async def test_half_a_request_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "FIRST_REQUEST_LIMIT_S", 0.05)
    async with unharmed() as site:
        assert await raw(site, POST[:-10]) == b""


async def test_half_a_body_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "BODY_LIMIT_S", 0.05)
    monkeypatch.setattr(protocol, "LINGER_S", 0.05)
    async with unharmed() as site:
        answer = await raw(site, POST + b'Content-Length: 1000\r\n\r\n{"messages"')
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in answer


async def test_a_client_that_hangs_up_in_its_body_leaves_nothing_behind() -> None:
    backend = ScriptedBackend()
    async with unharmed(backend) as site:
        _, writer = await asyncio.open_connection(site.host, site.port)
        writer.write(POST + b"Content-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert not backend.requests


async def test_more_connections_than_the_limit_are_closed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "MOST_CONNECTIONS", 3)
    async with serving() as site:
        held = [await asyncio.open_connection(site.host, site.port) for _ in range(3)]
        assert await raw(site, b"") == b""
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        await until_served(site)


async def until_served(site: Site) -> None:
    async with asyncio.timeout(10):
        while not await raw(site, b"GET / HTTP/1.0\r\n\r\n"):
            pass


async def test_a_reader_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WRITE_LIMIT_S", 0.1)
    backend = ScriptedBackend(Accepted(prompt_tokens=1), *[Delta("x" * 65536)] * 2000)
    async with unharmed(backend) as site:
        _, writer = await asyncio.open_connection(site.host, site.port)
        body = json.dumps({**HI, "stream": True}).encode()
        writer.write(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        await until(lambda: backend.closed == 1)
        writer.close()

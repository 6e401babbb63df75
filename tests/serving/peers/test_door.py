"""The door opens to where a prompt may go, and to nowhere else."""

from __future__ import annotations

import ast
import asyncio
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import edge_agent
from edge_agent.errors import Forbidden
from edge_agent.messages import Policy
from edge_agent.serving.peers import door as door_module
from edge_agent.serving.peers.door import MOST_BODY_BYTES, Broken, Door, NoConnection, Reply, may_go
from edge_agent.serving.peers.names import Names
from tests.serving.peers.double import Double, Fault
from tests.serving.peers.house import settings
from tests.serving.peers.test_names import found

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ALLOWED = {
    (Policy.SITE, "site"),
    (Policy.ANY, "site"),
    (Policy.ANY, "cloud"),
}


@asynccontextmanager
async def opened(url: str, key: str | None = None, **fields: Any) -> AsyncIterator[Door]:
    door = Door(settings(url, **fields), key)
    try:
        yield door
    finally:
        await door.close()


async def post(door: Door, policy: Policy = Policy.SITE) -> Reply:
    reply = await door.post("/v1/chat/completions", {}, policy=policy, headers={"X-A": "b"})
    reply.close()
    return reply


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("zone", ["site", "cloud"])
async def test_a_prompt_goes_as_far_as_its_policy_lets_it(policy: Policy, zone: str) -> None:
    async with Double("openai") as double, opened(double.url, zone=zone) as door:
        assert may_go(policy, zone) is ((policy, zone) in ALLOWED)
        if (policy, zone) in ALLOWED:
            assert (await post(door, policy)).status == 200
        else:
            with pytest.raises(Forbidden, match="must not reach peer 'attic'"):
                await post(door, policy)
            with pytest.raises(Forbidden):
                await door.get("/health", policy=policy)
            assert not double.received


def test_nothing_else_opens_connections_to_peers() -> None:
    package = Path(edge_agent.__file__).parent
    makers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "ClientSession"
    }
    assert makers == {"serving/peers/door.py"}


async def test_a_key_goes_along_and_not_into_errors() -> None:
    async with Double("openai") as double, opened(double.url, key="k" * 20) as door:
        await post(door)
        assert double.headers[0]["authorization"] == "Bearer " + "k" * 20
        assert double.headers[0]["x-a"] == "b"


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    async with Double("openai") as double, Double("openai") as sink:
        double.fault = Fault(status=307, headers={"Location": sink.url, "Retry-After": "3"})
        async with opened(double.url) as door:
            reply = await post(door)
        assert (reply.status, reply.retry_after) == (307, "3")
        assert not sink.received


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Double("openai") as double, Double("openai") as sink:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, sink.url)
        async with opened(double.url) as door:
            assert (await post(door)).status == 200
        assert not sink.received


async def test_cookies_are_not_kept() -> None:
    async with Double("openai") as double, opened(double.url) as door:
        double.fault = Fault(headers={"Set-Cookie": "a=b"})
        await post(door)
        await post(door)
        assert "cookie" not in double.headers[1]


async def test_every_request_has_a_connection_of_its_own() -> None:
    async with Double("openai") as double, opened(double.url) as door:
        await post(door)
        assert double.headers[0]["connection"] == "close"


async def test_compressed_bodies_stay_as_they_are() -> None:
    async with Double("openai") as double, opened(double.url) as door:
        double.fault = Fault(body=b"\x1f\x8bbomb", headers={"Content-Encoding": "gzip"})
        reply = await door.get("/health", policy=Policy.SITE)
        assert double.probed
        reply.close()
        reply = await door.post("/", {}, policy=Policy.SITE, headers={})
        assert await reply.read_all() == b"\x1f\x8bbomb"
        reply.close()


async def test_a_body_is_bounded() -> None:
    async with Double("openai") as double, opened(double.url) as door:
        double.fault = Fault(body=b"x" * (MOST_BODY_BYTES + 1))
        reply = await door.post("/", {}, policy=Policy.SITE, headers={})
        with pytest.raises(Broken, match="longer than"):
            await reply.read_all()
        reply.close()


@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "x" * 9000}, {f"X-{number}": "1" for number in range(100)}],
    ids=["long", "many"],
)
async def test_headers_are_bounded(headers: dict[str, str]) -> None:
    async with Double("openai") as double, opened(double.url) as door:
        double.fault = Fault(headers=headers)
        with pytest.raises(Broken):
            await post(door)


@asynccontextmanager
async def greeter() -> AsyncIterator[int]:
    """Serve what is not HTTP."""

    async def hello(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail ready\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(hello, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_what_is_not_http_is_broken() -> None:
    async with greeter() as port, opened(f"http://127.0.0.1:{port}") as door:
        with pytest.raises(Broken, match="not HTTP"):
            await post(door)


async def test_who_hangs_up_without_a_word_is_broken() -> None:
    async with Double("openai") as double, opened(double.url) as door:
        double.fault = Fault(die_after=0)
        with pytest.raises(Broken, match="ended the connection"):
            await post(door)


async def test_who_is_not_there_is_no_connection() -> None:
    async with Double("openai") as double:
        pass
    async with opened(double.url) as door:
        with pytest.raises(NoConnection, match="refused"):
            await post(door)


async def test_who_does_not_take_the_connection_is_no_connection() -> None:
    """A listener whose queue is full lets connection attempts hang, as a dead machine does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with opened(f"http://127.0.0.1:{port}", connect_timeout_s=0.05) as door:
            with pytest.raises(NoConnection, match="attempt to connect"):
                await post(door)
        for filler in fillers:
            filler.close()


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """Return the context of a server that vouches for itself."""
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make += ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    return context


async def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    own_certificate: ssl.SSLContext,
) -> None:
    async def never(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        pytest.fail("the connection was made")

    server = await asyncio.start_server(never, "127.0.0.1", 0, ssl=own_certificate)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, opened(url) as door:
        with pytest.raises(NoConnection, match="not to be trusted"):
            await post(door)


async def test_a_server_without_tls_is_no_tls_server() -> None:
    async with greeter() as port, opened(f"https://127.0.0.1:{port}") as door:
        with pytest.raises(NoConnection, match="no TLS"):
            await post(door)


async def test_a_name_of_the_site_does_not_lead_off_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "Names", partial(Names, look_up=found("8.8.8.8")))
    async with opened("http://attic.example") as door:
        with pytest.raises(NoConnection, match="no address that may be used"):
            await post(door)


async def test_a_name_of_the_site_is_reached_where_it_is_on_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look_up = found("8.8.8.8", "127.0.0.1")
    monkeypatch.setattr(door_module, "Names", partial(Names, look_up=look_up))
    async with Double("openai") as double, opened(f"http://attic.example:{double.port}") as door:
        assert (await post(door)).status == 200

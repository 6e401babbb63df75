"""A real server that is killed: `EDGE_TEST_PEER_COMMAND=… pytest -m long tests/real/peers`.

The command starts a server of OpenAI's protocol on loopback, at the port that stands for `{port}`
in it: `llama-server -m FILE --host 127.0.0.1 --port {port}`, `vllm serve DIR --port {port}`.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import aclosing, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from edge_agent.messages import Accepted, Answer, Delta, Failed
from tests.real.peers.test_servers import peer
from tests.serving.peers.double import Double
from tests.serving.peers.house import TEXT, events, house, outcome, request, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = os.environ.get("EDGE_TEST_PEER_COMMAND", "")
PATIENCE_S = 300.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.real,
    pytest.mark.timeout(PATIENCE_S),
    pytest.mark.skipif(not COMMAND, reason="EDGE_TEST_PEER_COMMAND starts no server"),
]


@contextmanager
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run the server; it is the test that ends it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = shlex.split(COMMAND.format(port=port))
    nowhere = subprocess.DEVNULL
    # A group of its own: vLLM's engine outlives a killed server, with all of its memory.
    with subprocess.Popen(
        command, stdout=nowhere, stderr=nowhere, start_new_session=True
    ) as process:
        try:
            wait_ready(f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}", process
        finally:
            with suppress(ProcessLookupError):  # nobody of it is left
                os.killpg(process.pid, signal.SIGKILL)


def wait_ready(url: str) -> None:
    until_s = time.monotonic() + PATIENCE_S / 2
    while time.monotonic() < until_s:
        try:
            with urllib.request.urlopen(url) as reply:  # noqa: S310  # loopback
                assert reply.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.1)
    pytest.fail("the server is not ready in time")


async def test_killed_before_it_is_asked() -> None:
    with server() as (url, process):
        one = peer(url)
        process.kill()
        process.wait()
        async with house(one) as peers:
            last = await outcome(peers, request())
    assert isinstance(last, Failed)
    assert "cannot be reached: connection refused" in last.message


async def test_killed_before_its_first_token_another_answers() -> None:
    with server() as (url, process):
        first = peer(url, priority=1)
        process.send_signal(signal.SIGSTOP)  # it has taken the request, and says nothing
        async with (
            Double("openai") as second,
            house(first, settings(second.url, name="rack")) as peers,
        ):
            asking = asyncio.create_task(outcome(peers, request()))
            while not peers.states()[0].running:  # noqa: ASYNC110  # what is waited for knows no events
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)
            process.kill()
            last = await asking
    assert isinstance(last, Answer)
    assert last.text == TEXT


async def test_killed_after_its_first_token_nobody_goes_on() -> None:
    asked = request(max_tokens=400)
    with server() as (url, process):
        first = peer(url, priority=1)
        async with (
            Double("openai") as second,
            house(first, settings(second.url, name="rack")) as peers,
        ):
            told = []
            async with aclosing(peers.stream(asked, peers.candidates(asked), None)) as stream:
                async for event in stream:
                    told.append(event)
                    if isinstance(event, Delta) and process.poll() is None:
                        process.kill()
            assert not second.bodies
            assert isinstance((await events(peers, request()))[0], Accepted)  # of the other
    assert isinstance(told[1], Delta)
    assert isinstance(told[-1], Failed)
    assert (told[-1].code, told[-1].retryable) == ("peer_failed", True)
    assert "broke off" in told[-1].message

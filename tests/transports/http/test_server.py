"""Binding, and the routes that tell about the daemon itself."""

from __future__ import annotations

import asyncio
import socket
from itertools import product
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ConfigError
from edge_agent.ops.health import State
from edge_agent.transports.http.server import HttpServer
from tests.transports.http.scripted import HEALTH, HI, Engine, ScriptedBackend, config, serving

if TYPE_CHECKING:
    from pathlib import Path

KEY = "a-key-of-this-test-0123"


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    path = tmp_path / "keys"
    path.write_text(f"{KEY}\n")
    return str(path)


async def test_several_addresses_serve_at_once() -> None:
    async with serving(listen=["127.0.0.1:0", "[::1]:0", "localhost:0"]) as site:
        server = HttpServer(config(listen=[]), ScriptedBackend(), lambda: HEALTH, bytes, Engine())
        assert server.addresses == ()
        answer = await site.get("/health")
        assert answer.status == 200


async def test_ipv6_answers() -> None:
    async with serving(listen=["[::1]:0"]) as site:
        answer = await site.session.get(f"http://[::1]:{site.port}/health")
        assert answer.status == 200


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", ":0"])  # refused here
async def test_an_address_beyond_loopback_needs_a_key(listen: str) -> None:
    server = HttpServer(
        config(listen=["127.0.0.1:0", listen]), ScriptedBackend(), lambda: HEALTH, bytes, Engine()
    )
    with pytest.raises(ConfigError, match=r"http\.listen.*http\.api_key_file"):
        await server.start()
    assert server.addresses == ()


async def test_with_a_key_such_an_address_is_served(key_file: str) -> None:
    server = HttpServer(
        config(listen=["0.0.0.0:0"], api_key_file=key_file),  # guarded by the key
        ScriptedBackend(),
        lambda: HEALTH,
        bytes,
        Engine(),
    )
    try:
        await server.start()
        assert server.addresses[0][0] == "0.0.0.0"  # noqa: S104  # what was asked for
    finally:
        await server.close()


async def test_a_taken_address_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer(
            config(listen=["127.0.0.1:0", f"127.0.0.1:{port}"]),
            ScriptedBackend(),
            lambda: HEALTH,
            bytes,
            Engine(),
        )
        with pytest.raises(ConfigError, match=f"cannot bind 127.0.0.1:{port}"):
            await server.start()


async def test_after_close_nobody_is_served() -> None:
    async with serving() as site:
        pass
    with pytest.raises(OSError, match=r"."):
        await asyncio.open_connection(site.host, site.port)


async def test_health_tells_whether_a_request_can_be_answered() -> None:
    for state, answers in product(State, ((), ("local",), ("attic",))):
        health = msgspec.structs.replace(HEALTH, state=state, answers=answers)
        async with serving(health=health) as site:
            answer = await site.get("/health")
            body = await answer.json()
        ready = bool(answers)
        assert answer.status == (200 if ready else 503)
        assert body["status"] == ("healthy" if ready else "model_not_loaded")
        assert body["model"] == "tiny"
        assert body["capabilities"] == ["reasoning", "math", "coding"]
        assert body["state"] == state.value


async def test_the_root_speaks_to_people_and_to_programs() -> None:
    async with serving() as site:
        to_people = await site.get("/", Accept="text/html,application/json")
        to_programs = await site.get("/", Accept="application/json")

        assert await to_people.text() == "Ollama is running"
        body = await to_programs.json()
    assert body.keys() == {"name", "model", "endpoints", "capabilities"}


async def test_models_are_listed_and_found_with_and_without_tag() -> None:
    async with serving() as site:
        listed = await (await site.get("/v1/models")).json()
        plain = await (await site.get("/v1/models/tiny")).json()
        tagged = await (await site.get("/v1/models/tiny:latest")).json()
        unknown = await site.get("/v1/models/some/other")

        assert listed == {"object": "list", "data": [plain]}
        assert plain == tagged
        assert plain["max_model_len"] == 4096
        assert unknown.status == 404
        assert (await unknown.json())["error"]["code"] == "model_not_found"


async def test_without_a_key_only_liveness_is_told(key_file: str) -> None:
    backend = ScriptedBackend()
    async with serving(backend, api_key_file=key_file) as site:
        for path in ("/v1/models", "/v1/models/tiny", "/nope", "/v1/chat/completions"):
            answer = await site.get(path, Authorization="Bearer wrong-key-0123456789")
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert (await site.post("/v1/chat/completions", HI)).status == 401
        assert (await site.post("/reasoning", {"prompt": "x"})).status == 401
        assert await (await site.get("/health")).json() == {"status": "healthy"}
        assert await (await site.get("/", Accept="application/json")).json() == {
            "name": "edge-agent"
        }
    assert not backend.requests


async def test_the_key_opens_everything(key_file: str) -> None:
    async with serving(api_key_file=key_file) as site:
        key = f"Bearer {KEY}"
        assert (await site.get("/v1/models", Authorization=key)).status == 200
        assert (await site.post("/v1/chat/completions", HI, Authorization=key)).status == 200
        assert "model" in await (await site.get("/health", Authorization=key)).json()


async def test_foreign_hosts_and_pages_are_refused() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        by_host = await site.post("/v1/chat/completions", HI, Host="evil.example")
        by_page = await site.post("/v1/chat/completions", HI, Origin="https://evil.example")
        ours = await site.post("/v1/chat/completions", HI, Host="gw1", Origin="http://gw1")

        assert by_host.status == by_page.status == 403
        assert (await by_host.json())["error"]["code"] == "forbidden"
        assert ours.status == 200
    assert len(backend.requests) == 1


async def test_an_allowed_host_is_served() -> None:
    async with serving(allowed_hosts=["edge.example"]) as site:
        assert (await site.get("/health", Host="edge.example")).status == 200


async def test_unknown_paths_and_wrong_methods_have_clear_errors() -> None:
    async with serving() as site:
        unknown = await site.get("/v1/nothing")
        wrong = await site.get("/v1/chat/completions")
        plain = await site.get("/reasoning")

        assert unknown.status == 404
        assert (await unknown.json())["error"]["code"] == "not_found"
        assert wrong.status == 405
        assert wrong.headers["Allow"] == "POST"
        assert (await wrong.json())["error"]["code"] == "method_not_allowed"
        assert plain.status == 405
        assert (await plain.json())["code"] == "method_not_allowed"


async def test_every_answer_says_whose_it_is() -> None:
    async with serving() as site:
        for path in ("/", "/health", "/nope", "/v1/models"):
            answer = await site.get(path)
            assert answer.headers["X-Edge-Served-By"] == "local"
            assert len(answer.headers["X-Request-Id"]) == 32


async def test_a_sane_request_id_is_kept_and_made_unique() -> None:
    backend = ScriptedBackend()
    async with serving(backend) as site:
        for _ in range(2):
            answer = await site.post("/v1/chat/completions", HI, X_Request_Id="job-7")
            assert answer.headers["X-Request-Id"] == "job-7"
    first, second = (request.id for request in backend.requests)
    assert first.startswith("job-7.")
    assert second.startswith("job-7.")
    assert first != second


@pytest.mark.parametrize("theirs", ["a b", "x" * 65, "<script>", "."])
async def test_a_strange_request_id_is_replaced(theirs: str) -> None:
    async with serving() as site:
        answer = await site.get("/health", X_Request_Id=theirs)
        assert answer.headers["X-Request-Id"] != theirs


async def test_a_bug_in_a_handler_is_an_internal_error_without_details(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(ScriptedBackend(RuntimeError("the secret of the house"))) as site:
        answer = await site.chat()
        assert answer.status == 500
        body = await answer.text()
    assert "internal" in body
    assert "secret" not in body
    assert "the secret of the house" in caplog.text


async def test_ready_tells_who_would_take_a_request_now_or_why_nobody_would() -> None:
    busy = msgspec.structs.replace(HEALTH, obstacles=("pressure: memory is soft",))
    for health, expected in (
        (HEALTH, (200, "ready", ["local"], [])),
        (busy, (503, "unavailable", [], ["pressure: memory is soft"])),
    ):
        async with serving(health=health) as site:
            answer = await site.get("/ready")
            body = await answer.json()
        assert (answer.status, body["status"], body["by"], body["reasons"]) == expected


async def test_strangers_learn_no_more_than_yes_or_no(key_file: str) -> None:
    async with serving(api_key_file=key_file) as site:
        assert await (await site.get("/ready")).json() == {"status": "ready"}
        assert (await site.get("/metrics")).status == 401


async def test_metrics_are_text_for_prometheus() -> None:
    async with serving() as site:
        answer = await site.get("/metrics")
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert await answer.text() == "counted 1\n"

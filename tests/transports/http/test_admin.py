"""What an operator may do over HTTP, and who is none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ConfigError, Loading
from edge_agent.ops.health import State
from edge_agent.transports.http import admin_routes
from tests.transports.http.scripted import HEALTH, Engine, serving

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR = "operator-key-0123456789"
CLIENT = "client-key-0123456789"
VERBS = ("load", "unload")


@pytest.fixture
def admin_key_file(tmp_path: Path) -> str:
    path = tmp_path / "admin-keys"
    path.write_text(OPERATOR)
    return str(path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("verb", VERBS)
async def test_an_operator_loads_and_unloads(verb: str, admin_key_file: str) -> None:
    engine = Engine()
    health = msgspec.structs.replace(HEALTH, state=State.READY, detail="serving tiny")
    async with serving(engine=engine, health=health, admin_key_file=admin_key_file) as site:
        answer = await site.post(f"/admin/{verb}", {}, **bearer(OPERATOR))

        assert answer.status == 200
        assert await answer.json() == {"state": "ready", "detail": "serving tiny"}
    assert [order.partition(":")[0] for order in engine.orders] == [verb]


@pytest.mark.parametrize("verb", VERBS)
async def test_without_an_admin_key_it_is_off_and_says_how_to_enable_it(verb: str) -> None:
    engine = Engine()
    async with serving(engine=engine) as site:
        answer = await site.post(f"/admin/{verb}", {}, **bearer(OPERATOR))

        assert answer.status == 403
        assert "http.admin_key_file" in (await answer.json())["error"]
    assert engine.orders == []


@pytest.mark.parametrize("headers", [{}, bearer(CLIENT)])
async def test_the_key_of_a_client_is_not_an_operators(
    headers: dict[str, str], tmp_path: Path, admin_key_file: str
) -> None:
    client_keys = tmp_path / "client-keys"
    client_keys.write_text(CLIENT)
    engine = Engine()
    async with serving(
        engine=engine, api_key_file=str(client_keys), admin_key_file=admin_key_file
    ) as site:
        answer = await site.post("/admin/unload", {}, **headers)
        theirs = await site.get("/v1/models", **bearer(OPERATOR))

        assert (answer.status, theirs.status) == (401, 401)
        assert (await site.post("/admin/unload", {}, **bearer(OPERATOR))).status == 200
    assert len(engine.orders) == 1


async def test_a_load_that_cannot_be_says_when_to_come_back(admin_key_file: str) -> None:
    engine = Engine(Loading("the engine process is starting", 7.0))
    async with serving(engine=engine, admin_key_file=admin_key_file) as site:
        answer = await site.post("/admin/load", {}, **bearer(OPERATOR))

        assert answer.status == 503
        assert answer.headers["Retry-After"] == "7"
        assert (await answer.json())["code"] == "loading"


async def test_an_unload_that_waits_for_answers_is_accepted(
    admin_key_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_routes, "UNLOAD_WAIT_S", 0.01)
    engine = Engine(is_busy=True)
    health = msgspec.structs.replace(HEALTH, state=State.UNLOADING)
    async with serving(engine=engine, health=health, admin_key_file=admin_key_file) as site:
        answer = await site.post("/admin/unload", {}, **bearer(OPERATOR))

        assert answer.status == 202
        assert (await answer.json())["state"] == "unloading"


@pytest.mark.parametrize("verb", VERBS)
async def test_a_link_or_a_picture_unloads_nothing(verb: str, admin_key_file: str) -> None:
    async with serving(admin_key_file=admin_key_file) as site:
        answer = await site.get(f"/admin/{verb}", **bearer(OPERATOR))
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_an_admin_key_file_without_keys_is_a_mistake_in_the_configuration(
    tmp_path: Path,
) -> None:
    path = tmp_path / "none"
    path.touch()
    with pytest.raises(ConfigError, match=r"http\.admin_key_file .*none"):
        async with serving(admin_key_file=str(path)):
            pass

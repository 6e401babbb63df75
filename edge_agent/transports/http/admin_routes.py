"""The routes under `/admin`: what an operator may do, with a key that is not a client's."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from edge_agent.errors import Forbidden, Unauthorized
from edge_agent.transports.http.app import HEALTH, json_response

if TYPE_CHECKING:
    from edge_agent.transports.http.auth import ApiKeys

# An idle engine is gone within milliseconds; a longer answer is not worth a waiting client.
UNLOAD_WAIT_S = 5.0

_NOT_ENABLED = (
    "/admin is not enabled: name a file that holds a key in http.admin_key_file "
    "and send that key as Authorization: Bearer KEY"
)
_BY_OPERATOR = "an operator asked for it"


class Operable(Protocol):
    """What an operator has to do with: the engine's supervisor."""

    async def load(self) -> None:
        """Return once the model is loaded; raises EdgeError when it cannot be now."""

    async def unload(self, reason: str) -> None:
        """Return once the model is out of memory; begun answers are given first."""


OPERABLE: web.AppKey[Operable] = web.AppKey("operable")
ADMIN_KEYS: web.AppKey[ApiKeys | None] = web.AppKey("admin_keys")


def add_admin_routes(app: web.Application, engine: Operable, keys: ApiKeys | None) -> None:
    """Put these routes into `app`; without `keys` they refuse everybody."""
    app[OPERABLE] = engine
    app[ADMIN_KEYS] = keys
    app.router.add_post("/admin/load", _load)
    app.router.add_post("/admin/unload", _unload)


async def _load(http: web.Request) -> web.Response:
    """Load the model and answer when it takes requests; its idle time begins anew."""
    _check_key(http)
    await http.app[OPERABLE].load()
    return _state(http)


async def _unload(http: web.Request) -> web.Response:
    """Unload the model; answer 200 when its memory is free, 202 while answers are still given."""
    _check_key(http)
    try:
        async with asyncio.timeout(UNLOAD_WAIT_S):
            await http.app[OPERABLE].unload(_BY_OPERATOR)
    except TimeoutError:
        return _state(http, status=HTTPStatus.ACCEPTED)
    return _state(http)


def _check_key(http: web.Request) -> None:
    keys = http.app[ADMIN_KEYS]
    if keys is None:
        raise Forbidden(_NOT_ENABLED)
    if not keys.accept(http.headers.get("Authorization")):
        raise Unauthorized


def _state(http: web.Request, *, status: int = HTTPStatus.OK) -> web.Response:
    health = http.app[HEALTH]()
    return json_response({"state": health.state.value, "detail": health.detail}, status=status)

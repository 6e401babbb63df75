"""The HTTP server: binds its addresses, decides whether that is safe, serves until closed."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from edge_agent.errors import ConfigError
from edge_agent.transports.http.address import Address, is_loopback, parse
from edge_agent.transports.http.admin_routes import add_admin_routes
from edge_agent.transports.http.app import ORIGINS, build_app
from edge_agent.transports.http.auth import load_keys
from edge_agent.transports.http.openai_routes import add_openai_routes
from edge_agent.transports.http.ops_routes import add_ops_routes
from edge_agent.transports.http.origin import OriginRule
from edge_agent.transports.http.protocol import Connection
from edge_agent.transports.http.slm_routes import add_slm_routes

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.config import Config
    from edge_agent.ops.health import Health
    from edge_agent.serving.router import Backend
    from edge_agent.transports.http.admin_routes import Operable
    from edge_agent.transports.http.auth import ApiKeys

logger = logging.getLogger(__name__)

# Answers were drained before this; what still runs is told to end and gets this long.
SHUTDOWN_LIMIT_S = 2.0
# Connections the kernel holds for us while the loop is busy.
_BACKLOG = 128


class HttpServer:
    """Serves HTTP on every configured address."""

    def __init__(
        self,
        config: Config,
        router: Backend,
        health: Callable[[], Health],
        metrics: Callable[[], bytes],
        engine: Operable,
    ) -> None:
        self._config = config
        self._backend = router
        self._health = health
        self._metrics = metrics
        self._engine = engine
        self._runner: web.AppRunner | None = None
        self._servers: list[asyncio.Server] = []

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every bound socket; port 0 is replaced by the real one."""
        return tuple(
            bound.getsockname()[:2] for server in self._servers for bound in server.sockets
        )

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigError: an address is malformed, taken, or reachable from other machines while
                there is no API key; nothing is served then.
        """
        http = self._config.http
        addresses = [parse(text) for text in http.listen]
        keys = _keys(http.api_key_file, "http.api_key_file")
        app = build_app(self._config, self._backend, self._health, self._metrics, keys)
        for add_routes in (add_openai_routes, add_slm_routes, add_ops_routes):
            add_routes(app)
        admin_keys = _keys(http.admin_key_file, "http.admin_key_file")
        add_admin_routes(app, self._engine, admin_keys)
        app[ORIGINS] = self._origin_rule(addresses)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=SHUTDOWN_LIMIT_S)
        await runner.setup()
        self._runner = runner
        try:
            for address in addresses:
                self._servers.append(await self._bind(address))
            if keys is None:
                self._refuse_strangers()
            for server in self._servers:
                await server.start_serving()
        except BaseException:
            await self.close()
            raise
        for host, port in self.addresses:
            logger.info("http listening address=%s", Address(host, port))

    async def close(self) -> None:
        """Stop listening, end what still runs, and return when every connection is closed."""
        for server in self._servers:
            server.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._servers.clear()

    async def _bind(self, address: Address) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(
                self._connection,
                address.host or None,
                address.port,
                backlog=_BACKLOG,
                start_serving=False,
            )
        except (OSError, UnicodeError) as exc:
            where = "http.listen"
            raise ConfigError(where, f"cannot bind {address}: {exc}") from exc

    def _connection(self) -> Connection:
        if self._runner is None or self._runner.server is None:
            msg = "a connection came to a server that is closed"
            raise RuntimeError(msg)
        return Connection(self._runner.server, asyncio.get_running_loop())

    def _refuse_strangers(self) -> None:
        """Judge the addresses that were really bound: a name may stand for any of them."""
        for host, port in self.addresses:
            if not is_loopback(host):
                where = "http.listen"
                address = Address(host, port)
                raise ConfigError(
                    where,
                    f"{address} can be reached from other machines; "
                    "that needs API keys in a file named by http.api_key_file",
                )

    def _origin_rule(self, addresses: list[Address]) -> OriginRule:
        names = {address.host for address in addresses if address.host}
        return OriginRule(
            own_hosts=frozenset(names | {socket.gethostname(), self._config.node}),
            allowed_hosts=frozenset(self._config.http.allowed_hosts),
        )


def _keys(path: str | None, setting: str) -> ApiKeys | None:
    return load_keys(path, setting) if path else None

"""`edge-agent serve`: run the daemon in the foreground."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edge_agent.cli.config import read
from edge_agent.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from edge_agent.config import Config, Mqtt

# State holds prompts and answers; nobody else on the machine has to read them.
PRIVATE = 0o077
PORT, TLS_PORT = 1883, 8883  # as registered
EXAMPLE = "Why is the sky blue?"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("serve", help="run the daemon until it is told to stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the daemon; return 0 after an orderly stop."""
    from edge_agent import config  # noqa: PLC0415  # heavy; other verbs do without
    from edge_agent.daemon.main import run as run_daemon  # noqa: PLC0415
    from edge_agent.ops import log  # noqa: PLC0415

    settings = read(args)
    os.umask(PRIVATE)
    log.set_up(settings.daemon.log_level, settings.daemon.log_format)
    asyncio.run(run_daemon(settings, config.home_dir(), Terminal(settings)))
    return 0


class Terminal:
    """Tells the person who started the daemon where it is and how to try it."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings
        self._addresses: Sequence[tuple[str, int]] = ()

    def listening(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Print where HTTP listens."""
        self._addresses = addresses
        for address in addresses:
            say(f"listening on {_url(address)}")

    def ready(self) -> None:
        """Print one line to copy for each way in."""
        say(f"ready: {self._settings.default_model} answers; try")
        for line in (*self._http_example(), *self._mqtt_example()):
            say(f"  {line}")

    def _http_example(self) -> list[str]:
        if not self._addresses:
            return []
        key_file = self._settings.http.api_key_file
        key = f'-H "Authorization: Bearer $(head -n1 {key_file})" ' if key_file else ""
        body = f'{{"messages": [{{"role": "user", "content": "{EXAMPLE}"}}]}}'
        host, port = self._addresses[0]
        # Nobody can connect to "every address"; from this machine loopback reaches it.
        reachable = _LOOPBACK.get(host, host), port
        url = f"{_url(reachable)}/v1/chat/completions"
        return [f"curl {key}-H 'Content-Type: application/json' -d {shlex.quote(body)} {url}"]

    def _mqtt_example(self) -> list[str]:
        mqtt = self._settings.mqtt
        if mqtt.url is None:
            return []
        base = mqtt.base_topic.replace("{node}", self._settings.node)
        options = " ".join(_mosquitto_options(mqtt, mqtt.url))
        return [
            f"mosquitto_sub {options} -t {shlex.quote(f'{base}/response/#')} &",
            f"mosquitto_pub {options} -t {base}/request -m {shlex.quote(EXAMPLE)}",
        ]


def _mosquitto_options(mqtt: Mqtt, url: str) -> Iterator[str]:
    """Yield the options that bring mosquitto's clients to our broker; secrets stay in files."""
    broker = urlsplit(url)
    is_tls = broker.scheme == "mqtts"
    yield f"-h {broker.hostname} -p {broker.port or (TLS_PORT if is_tls else PORT)} -q 1"
    if is_tls:
        yield f"--cafile {mqtt.ca_file}" if mqtt.ca_file else "--tls-use-os-certs"
    if mqtt.username:
        yield f"-u {shlex.quote(mqtt.username)}"
    if mqtt.password_file:
        yield f'-P "$(cat {mqtt.password_file})"'


_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # names them, binds nothing


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

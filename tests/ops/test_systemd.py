"""What systemd gets to hear, through a socket of our own."""

from __future__ import annotations

import os
import socket
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from edge_agent.ops.systemd import notify, watchdog_interval_s

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def manager(address: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as ear:
        ear.settimeout(5)
        ear.bind(address)
        yield ear


def test_a_notice_is_one_datagram_of_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path) as ear:
        assert notify("READY=1", "STATUS=ready: serving", environ={"NOTIFY_SOCKET": path})
        assert ear.recv(1024) == b"READY=1\nSTATUS=ready: serving"


def test_an_abstract_socket_is_found_behind_its_at_sign() -> None:
    name = f"edge-agent-test-{os.getpid()}"
    with manager(f"\0{name}") as ear:
        assert notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": f"@{name}"})
        assert ear.recv(1024) == b"WATCHDOG=1"


def test_nobody_listening_is_no_error(tmp_path: Path) -> None:
    assert not notify("READY=1", environ={})
    assert not notify("READY=1", environ={"NOTIFY_SOCKET": str(tmp_path / "gone")})


def test_a_full_socket_does_not_block(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with manager(path):
        sent = [notify("STATUS=x", environ={"NOTIFY_SOCKET": path}) for _ in range(5000)]
    assert sent[0]
    assert not sent[-1]


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_fed_at_half_of_its_limit(
    environ: dict[str, str], interval_s: float | None
) -> None:
    assert watchdog_interval_s(environ) == interval_s

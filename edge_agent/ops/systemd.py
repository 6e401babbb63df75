"""Tells systemd how the daemon is: one datagram per notice, nothing when nobody listens.

The protocol is sd_notify(3): lines of KEY=VALUE to the socket named by `$NOTIFY_SOCKET`.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)


def notify(*lines: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `lines` (`READY=1`, `STATUS=…`) and return whether somebody took them.

    A notice that cannot be delivered is logged, never raised: the daemon serves all the same.
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    # A leading @ stands for the zero byte of Linux's abstract namespace.
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            # A full queue of the manager must not block the event loop.
            link.setblocking(False)  # noqa: FBT003  # its only parameter, positional by design
            link.sendto("\n".join(lines).encode(), address)
    except OSError as exc:
        logger.warning("systemd notice lost error=%s", exc)
        return False
    return True


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """Return how often to send `WATCHDOG=1`: half the limit systemd set; None when it set none."""
    limit_us = environ.get("WATCHDOG_USEC", "")
    pid = environ.get("WATCHDOG_PID", str(os.getpid()))
    if not limit_us.isdecimal() or int(limit_us) == 0 or pid != str(os.getpid()):
        return None
    return int(limit_us) / 1e6 / 2

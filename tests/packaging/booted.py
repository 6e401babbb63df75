"""A real systemd, booted from a directory tree in a container, and our service in it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.packaging.local_api import PATIENCE_S, LocalApi, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SERVICE = "edge-agent.service"


@contextmanager
def booted(root: Path, api: LocalApi) -> Iterator[Machine]:
    """Boot the tree at `root`; on leaving, switch it off and wait for its end."""
    # No registration: there may be no systemd outside. The network is this machine's.
    command = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--console=pipe"]
    # What systemd inside needs to filter addresses: bpf(2), and one hierarchy of control groups.
    command += ["--capability=all", "--system-call-filter=bpf"]
    environ = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with subprocess.Popen(
        [*command, "--boot", f"--directory={root}"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    ) as container:
        machine = Machine(container.pid, api)
        try:
            until(machine.is_up, "systemd has booted")
            yield machine
            machine.run("systemctl", "poweroff", check=False)
            container.wait(PATIENCE_S)
        finally:
            container.kill()


class Machine:
    """The booted system, seen from outside: commands, the service's properties, its API."""

    def __init__(self, container_pid: int, api: LocalApi) -> None:
        self._container_pid = container_pid
        self.api = api

    def run(self, *command: str, check: bool = True) -> str:
        """Run `command` inside and return what it printed."""
        enter = ["nsenter", "--all", f"--target={self._first_pid()}", *command]
        done = subprocess.run(enter, check=check, capture_output=True, text=True)
        return done.stdout

    def is_up(self) -> bool:
        """Whether systemd inside says that all is started."""
        if not self._first_pid():
            return False
        return self.run("systemctl", "is-system-running", check=False).strip() == "running"

    def systemctl(self, verb: str) -> None:
        """Do `verb` to the service and wait for its end."""
        self.run("systemctl", verb, SERVICE)

    def show(self, name: str) -> str:
        """Return the property `name` of the service."""
        return self.run("systemctl", "show", "--value", f"--property={name}", SERVICE).strip()

    def log(self) -> str:
        """Return everything the service wrote, and what systemd wrote about it."""
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={SERVICE}")

    @property
    def daemon_pid(self) -> int:
        """The service's main process, as numbered inside; 0 when there is none."""
        return int(self.show("MainPID"))

    def engine_pid(self) -> int:
        """Return the daemon's one child; 0 while there is none."""
        children = self.run("sh", "-c", f"cat /proc/{self.daemon_pid}/task/*/children")
        return int(children or 0)

    def signal(self, name: str, pid: int) -> None:
        """Send a signal to a process inside."""
        self.run("sh", "-c", f"kill -{name} {pid}")

    def process(self, pid: int) -> Mapping[str, str]:
        """Return /proc/PID/status of a process inside."""
        lines = self.run("cat", f"/proc/{pid}/status").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def _first_pid(self) -> str:
        children = Path(f"/proc/{self._container_pid}/task/{self._container_pid}/children")
        return children.read_text().strip()

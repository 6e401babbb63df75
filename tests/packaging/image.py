"""Builds the image without a container engine, and runs it closed in as compose.yaml says.

Needs root, buildah (chroot isolation: no daemon, no registry) and runc. Images are kept in the
test cache.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.packaging.debian_root import CACHE, PROJECT, PYTHON, debian_root

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BASE = "localhost/debian-python"
IMAGE = "localhost/edge-agent"
CAPABILITY_SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def buildah(*arguments: str) -> str:
    """Run buildah on the images in the test cache and return what it printed."""
    places = [f"--root={CACHE / 'images'}", f"--runroot={CACHE / 'images-run'}"]
    command = ["buildah", *places, "--storage-driver=overlay", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def build_image() -> None:
    """Build the image on a Debian of our own: a registry may be out of reach."""
    if not buildah("images", "--quiet", "--filter", f"reference={BASE}"):
        empty = buildah("from", "scratch")
        buildah("add", "--quiet", empty, f"{debian_root('debian-python', PYTHON)}/")
        buildah("commit", "--quiet", empty, BASE)
        buildah("rm", empty)
    how = ["--isolation=chroot", "--format=docker", f"--build-arg=BASE={BASE}", f"--tag={IMAGE}"]
    file = "container/Containerfile"
    ignored = f"--ignorefile={PROJECT / file}.dockerignore"
    buildah("bud", *how, ignored, f"--file={PROJECT / file}", str(PROJECT))


@contextmanager
def unpacked() -> Iterator[str]:
    """Lend the path of the image's file tree."""
    name = buildah("from", "--pull-never", IMAGE)
    try:
        yield buildah("mount", name)
    finally:
        buildah("rm", name)


def image_config() -> dict[str, Any]:
    """Return what the image says about itself: user, command, health check, stop signal."""
    told = json.loads(buildah("inspect", "--type=image", IMAGE))
    config: dict[str, Any] = told["Docker"]["config"]
    return config


class Container:
    """A container of the image: no capability, a read-only root, one writable volume."""

    def __init__(self, directory: Path, tree: str, environ: Mapping[str, str]) -> None:
        """Prepare it in `directory`; `tree` is the unpacked image."""
        self._bundle = directory
        self._name = f"edge-agent-test-{uuid.uuid4().hex[:8]}"
        self._log = directory / "log"
        self._config = image_config()
        self.state = directory / "state"
        self.state.mkdir()
        self.secrets = directory / "secrets"
        self.secrets.mkdir()
        self._uid, self._gid = map(int, self._config["User"].split(":"))
        os.chown(self.state, self._uid, self._gid)
        spec = json.dumps(self._spec(tree, environ))
        (directory / "config.json").write_text(spec)
        self._process: subprocess.Popen[bytes] | None = None

    def give_secret(self, name: str, value: str) -> None:
        """Put a file below /run/secrets that the container's user alone can read."""
        path = self.secrets / name
        path.touch(mode=0o400)
        path.write_text(value)
        os.chown(path, self._uid, self._gid)

    def start(self) -> None:
        """Start the image's own command."""
        command = ["runc", "run", f"--bundle={self._bundle}", self._name]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def stop(self, limit_s: float) -> int:
        """Send the image's stop signal and return the exit code."""
        self._runc("kill", self._name, self._config["StopSignal"])
        return self.wait(limit_s)

    def wait(self, limit_s: float) -> int:
        """Wait for its own end and return the exit code."""
        assert self._process
        return self._process.wait(limit_s)

    def destroy(self) -> None:
        """Leave nothing running, however the test ended."""
        if self._process and self._process.poll() is None:
            self._runc("delete", "--force", self._name)
            self._process.wait()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run `command` in the running container, as its user."""
        return self._runc("exec", self._name, *command)

    def health_check(self, *more: str) -> int:
        """Return the exit code of the image's health check, with `more` arguments."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command, *more).returncode

    def log(self) -> str:
        """Return what the container wrote."""
        return self._log.read_text()

    def _runc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["runc", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def _spec(self, tree: str, environ: Mapping[str, str]) -> dict[str, Any]:
        """Return the OCI runtime's order: what compose.yaml asks a container engine for."""
        image_environ = dict(line.split("=", 1) for line in self._config["Env"])
        env = [f"{name}={value}" for name, value in {**image_environ, **environ}.items()]
        process = {
            "user": {"uid": self._uid, "gid": self._gid},
            "args": self._config["Entrypoint"] + self._config["Cmd"],
            "env": env,
            "cwd": "/",
            "capabilities": {name: [] for name in CAPABILITY_SETS},
            "noNewPrivileges": True,
            "oomScoreAdj": 200,
        }
        spaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
        return {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": tree, "readonly": True},
            "hostname": "container",
            "mounts": self._mounts(),
            # The network is this machine's: building one would need a container engine.
            "linux": {"namespaces": spaces},
        }

    def _mounts(self) -> list[dict[str, Any]]:
        volume = next(iter(self._config["Volumes"]))
        tmpfs = ["nosuid", "nodev", "noexec", "mode=1777", "size=64m"]
        return [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},
            _bind(volume, self.state, "rw"),
            _bind("/run/secrets", self.secrets, "ro"),
            _bind("/etc/resolv.conf", Path("/etc/resolv.conf"), "ro"),
        ]


def _bind(inside: str, outside: Path, access: str) -> dict[str, Any]:
    options = ["rbind", access]
    return {"destination": inside, "type": "bind", "source": str(outside), "options": options}

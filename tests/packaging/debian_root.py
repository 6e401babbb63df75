"""Bare Debian 12 trees below the test cache, and this project installed into one.

Needs root, debootstrap and the network. A tree is made once and kept; the program in it is
replaced on every run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
CACHE = Path(os.environ.get("EDGE_TEST_CACHE") or "~/.cache/edge-agent-tests").expanduser()
PROGRAM_DIR = "/opt/edge-agent"
PYTHON = ("python3", "python3-venv", "ca-certificates")
SYSTEMD = ("systemd", "systemd-sysv", "dbus", "libnss-systemd")
# A machine behind a proxy has authorities of its own; the tree has to trust what this one trusts.
AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"


def debian_root(name: str, packages: tuple[str, ...]) -> Path:
    """Return the cached tree called `name`; debootstrap makes it, with `packages`, if need be."""
    root = CACHE / name
    if not root.exists():
        begun = CACHE / f"{name}.begun"
        shutil.rmtree(begun, ignore_errors=True)
        command = [
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            "bookworm",
        ]
        subprocess.run([*command, str(begun)], check=True)
        begun.rename(root)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    shutil.copy(f"/{AUTHORITIES}", root / AUTHORITIES)
    (root / "etc/pip.conf").write_text(f"[global]\ncert = /{AUTHORITIES}\n")
    return root


def build_wheel(directory: Path) -> Path:
    """Return our wheel, built into `directory`."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory"]
    subprocess.run([*build, str(directory)], cwd=PROJECT, check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


def install(root: Path, wheel: Path) -> None:
    """Install `wheel` into a venv at /opt/edge-agent of `root`."""
    shutil.copy(wheel, root / "root")
    inside = f"/root/{wheel.name}"
    if not (root / PROGRAM_DIR.lstrip("/")).exists():
        _run(root, "python3", "-m", "venv", PROGRAM_DIR)
    pip = (f"{PROGRAM_DIR}/bin/pip", "install", "-q", "--no-cache-dir")
    # The version is the same after every change: first ours in any case, then what it needs.
    _run(root, *pip, "--force-reinstall", "--no-deps", inside)
    _run(root, *pip, inside)


def _run(root: Path, *command: str) -> None:
    # Settings of pip in this machine's environment name paths that are not in the tree.
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    inside = ["chroot", str(root), *command]
    subprocess.run(inside, check=True, env=clean)

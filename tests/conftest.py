"""What tests of several packages share: a home with the real small model, prepared once."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edge_agent
from edge_agent.modelstore.catalog import shipped_cards

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "smollm2-135m-instruct"

_LIBM = ctypes.CDLL("libm.so.6")
_FE_DFL_ENV = ctypes.c_void_p(-1)  # fenv.h, on x86-64 and on ARM64


@pytest.fixture(scope="session")
def model_home() -> Path:
    """Return an EDGE_AGENT_HOME that holds the real model, pulled as a user would pull it.

    It is kept in `$EDGE_TEST_CACHE` (default below ~/.cache), shared by all runs: tests
    must not change it.
    """
    cache = Path(os.environ.get("EDGE_TEST_CACHE") or "~/.cache/edge-agent-tests").expanduser()
    home = cache / "home"
    home.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "edge_agent", "model"]
    environ = {**os.environ, "EDGE_AGENT_HOME": str(home)}
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / "made-by"
        if not _is_current(stamp):
            subprocess.run([*command, "remove", MODEL], env=environ, check=False)
        subprocess.run([*command, "pull", MODEL], env=environ, check=True)
        # Each daemon would do it at its first start, and so change what the tests share.
        subprocess.run([*command, "prepare", MODEL, "--quick"], env=environ, check=True)
        stamp.write_text(_makers())
    return home


def _is_current(stamp: Path) -> bool:
    return stamp.exists() and stamp.read_text() == _makers()


def _makers() -> str:
    """Return a fingerprint of what shapes a package, so that a change of it makes a new one."""
    importers = Path(edge_agent.__file__).parent / "importers"
    sources = sorted([*importers.glob("*.py"), *shipped_cards().glob("*.yaml")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


@pytest.fixture(autouse=True)
def _own_arithmetic() -> Iterator[None]:
    """Undo what a session of onnxruntime leaves in its thread: tiny numbers are zero there."""
    yield
    _LIBM.fesetenv(_FE_DFL_ENV)


LANES = ("contract", "real", "chaos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what is quick and fails most often first: unit tests, then the lanes in this order."""
    items.sort(key=_lane)  # stable: within a lane the order of the files stays


def _lane(item: pytest.Item) -> int:
    folder = item.path.relative_to(item.config.rootpath / "tests").parts[0]
    return LANES.index(folder) + 1 if folder in LANES else 0

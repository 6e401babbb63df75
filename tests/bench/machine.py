"""What a race was run on: figures of two machines cannot be compared."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from edge_agent import __version__

_LIBRARIES = ("onnxruntime", "numpy", "tokenizers")


def facts() -> dict[str, object]:
    """Return processor, memory, kernel and the versions on our side."""
    return {
        "processor": _processor(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "edge_agent": __version__,
        **{name: version(name) for name in _LIBRARIES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()

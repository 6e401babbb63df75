"""What packed weights depend on beside the model: the runtime's version and the processor.

Kernels choose a layout by the processor's features, and each version of the runtime its own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path

from msgspec import Struct

_RUNTIME = "onnxruntime"
_CPUINFO = Path("/proc/cpuinfo")
# What names a core: on x86 its model, on ARM its maker and part (big and little ones differ).
_NAMES = ("model name", "CPU implementer", "CPU part")
_FEATURES = ("flags", "Features")
# The vector and matrix units that matrix kernels are written for. Every kernel of Linux adds
# flags of other kinds, and none of those shall cost a gateway minutes of packing.
_VECTOR_UNITS = (
    *("amx", "avx", "bmi", "f16c", "fma", "sse", "ssse"),
    *("asimd", "bf16", "fphp", "i8mm", "sme", "sve"),
)


class MachineKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights packed under one key are of no use under another."""

    onnxruntime: str
    """Version."""
    machine: str
    """Architecture, as `uname -m` says it."""
    cpu: str
    """Hash of the processor's name and vector units."""


def this_machine() -> MachineKey:
    """Return the key of this machine with the runtime that is installed."""
    try:
        cpuinfo = _CPUINFO.read_text(errors="replace")
    except OSError:  # hidden by a sandbox; the runtime itself takes no weights that do not fit
        cpuinfo = ""
    return MachineKey(
        onnxruntime=importlib.metadata.version(_RUNTIME),
        machine=platform.machine(),
        cpu=cpu_fingerprint(cpuinfo),
    )


def cpu_fingerprint(cpuinfo: str) -> str:
    """Return a hash of what `cpuinfo`, the text of /proc/cpuinfo, says of all processors."""
    facts = set()
    for line in cpuinfo.splitlines():
        name, _, value = (word.strip() for word in line.partition(":"))
        if name in _NAMES:
            facts.add(f"{name}={value}")
        elif name in _FEATURES:
            facts.update(flag for flag in value.split() if flag.startswith(_VECTOR_UNITS))
    return hashlib.sha256("\n".join(sorted(facts)).encode()).hexdigest()[:16]


def difference(made: MachineKey, here: MachineKey) -> str | None:
    """Return in words what of `made` is not so `here`; None if all is."""
    if made.onnxruntime != here.onnxruntime:
        return f"made by onnxruntime {made.onnxruntime}, this is {here.onnxruntime}"
    if (made.machine, made.cpu) != (here.machine, here.cpu):
        there, this = f"{made.machine} {made.cpu}", f"{here.machine} {here.cpu}"
        return f"made on another processor ({there}, not {this})"
    return None

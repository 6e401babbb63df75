"""Moments that outlive the process, and the seconds between them.

A wall clock jumps (a gateway without a battery starts in the past), a monotonic clock restarts with
the machine. So a moment holds both and the boot it belongs to: within one boot CLOCK_BOOTTIME
decides, which also counts suspended time; after a reboot only wall time is left.
"""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A point in time; `boot_s` counts from the start of the machine run named `boot_id`."""

    boot_id: str
    boot_s: float
    wall_s: float

    def plus(self, seconds: float) -> Moment:
        """Return the moment `seconds` later."""
        return Moment(
            boot_id=self.boot_id, boot_s=self.boot_s + seconds, wall_s=self.wall_s + seconds
        )

    def seconds_after(self, earlier: Moment) -> float:
        """Return the seconds from `earlier` to this moment; negative if it is before."""
        if self.boot_id == earlier.boot_id:
            return self.boot_s - earlier.boot_s
        return self.wall_s - earlier.wall_s


def now() -> Moment:
    """Return this moment."""
    return Moment(
        boot_id=_boot_id(), boot_s=time.clock_gettime(time.CLOCK_BOOTTIME), wall_s=time.time()
    )


@functools.cache
def _boot_id() -> str:
    """Return the kernel's name for this run of the machine; it cannot change under a process."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # a sandbox hides it; all moments then count as of one boot

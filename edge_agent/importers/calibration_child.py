"""Has a process of its own measure the scales of an int8 KV cache for a package just written.

Of its own, because it loads the engine: where the processor or the memory is not enough for that,
the kernel ends it and not the import, and the package does without scales.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from edge_agent.errors import EdgeError
from edge_agent.modelstore.leash import leashed
from edge_agent.modelstore.scales import SCALES

# The kernel's largest: this process goes first when memory runs out, before the import.
_OOM_SCORE = "1000"
_OOM_SCORE_FILE = Path("/proc/self/oom_score_adj")
# Loading and reading a thousand tokens takes the largest model on a slow board some minutes.
_LIMIT_S = 1800


def add_scales(package: Path) -> str | None:
    """Write the scales of `package`; return why there are none, if it cannot be done here."""
    argv = [sys.executable, "-m", "edge_agent.importers.calibration_child", str(package)]
    try:
        done = subprocess.run(
            leashed(argv), capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}"
    return (done.stderr.strip().splitlines() or ["it said nothing"])[-1]


def main(argv: list[str]) -> int:
    """Measure for the package that the command line names and return the exit status."""
    from edge_agent.importers.calibrate import calibrate  # noqa: PLC0415  # loads the engine

    _OOM_SCORE_FILE.write_text(_OOM_SCORE)
    try:
        calibrate(Path(argv[0]), threads=len(os.sched_getaffinity(0)), name=SCALES)
    except (EdgeError, OSError) as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

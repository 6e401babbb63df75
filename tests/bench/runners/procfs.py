"""What the kernel tells of a process's memory. Plain Python, as `task`."""

from __future__ import annotations

from pathlib import Path

_FIELDS = {"rss_anon_mb": "RssAnon", "rss_file_mb": "RssFile", "peak_rss_mb": "VmHWM"}


def memory_mb(pid: int | str = "self") -> dict[str, float]:
    """Return the memory of `pid`, in megabytes: anonymous, of files, and the peak of all."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {
        ours: round(int(status[name].split()[0]) * 1024e-6, 1) for ours, name in _FIELDS.items()
    }

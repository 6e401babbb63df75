"""In how large pages a contestant's memory lay: through huge ones the same steps are faster.

Whether the system has them depends on what it did before, so that a figure without this beside it
can be compared with no other.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.results import Run

_GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """What a process has in memory, and how much of it is mapped as huge pages."""

    file_bytes: int
    """Of files, those that are in memory only too: our weights, where they are prepared."""
    file_huge_bytes: int
    anon_bytes: int
    """Its own: caches, and the weights of who packs them at every load."""
    anon_huge_bytes: int


def read_pages(pid: int) -> Pages:
    """Return how the memory of the process `pid` lies now.

    Raises:
        OSError: there is no such process, or it is somebody else's.
        ValueError: the kernel does not tell.
    """
    return parse(Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii"))


def parse(rollup: str) -> Pages:
    """Return what `rollup`, the text of a `smaps_rollup`, says (Linux, `proc_pid_smaps(5)`).

    Raises:
        ValueError: a field is missing.
    """
    lines = (line.split() for line in rollup.splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines if words[2:] == ["kB"]}
    try:
        return Pages(
            file_bytes=found["Rss:"] - found["Anonymous:"],
            file_huge_bytes=found["FilePmdMapped:"] + found["ShmemPmdMapped:"],
            anon_bytes=found["Anonymous:"],
            anon_huge_bytes=found["AnonHugePages:"],
        )
    except KeyError as exc:
        msg = f"smaps_rollup without {exc}"
        raise ValueError(msg) from exc


def pages_notes(runs: Iterable[Run]) -> list[str]:
    """Return a line for each section and contestant of `runs`: medians of its turns, extremes."""
    found: dict[tuple[str, str], list[Pages]] = {}
    for run in runs:
        if run.pages is not None:
            found.setdefault((run.section, run.contestant), []).append(run.pages)
    return [f"{section}, {name}: {_sentence(pages)}" for (section, name), pages in found.items()]


def _sentence(pages: list[Pages]) -> str:
    files = _part([each.file_huge_bytes for each in pages], [each.file_bytes for each in pages])
    own = _part([each.anon_huge_bytes for each in pages], [each.anon_bytes for each in pages])
    return f"in huge pages {files} of files, {own} of its own"


def _part(huge_bytes: list[int], all_bytes: list[int]) -> str:
    huge, whole = statistics.median(huge_bytes) / _GB, statistics.median(all_bytes) / _GB
    spread = f"{min(huge_bytes) / _GB:.2f} to {max(huge_bytes) / _GB:.2f}"
    return f"{huge:.2f} ({spread}) of {whole:.2f} GB"

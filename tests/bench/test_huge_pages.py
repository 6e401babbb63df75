"""What the kernel tells of huge pages, and what is said of it."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.huge_pages import Pages, pages_notes, parse, read_pages
from tests.bench.results import Run

MB = 10**6
ROLLUP = """55c74a2ec000-7ffc984a8000 ---p 00000000 00:00 0                          [rollup]
Rss:                9000 kB
Pss_File:            214 kB
Anonymous:          5000 kB
LazyFree:              0 kB
AnonHugePages:      4096 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:      2048 kB
THPeligible:           1
"""


def run(section: str, contestant: str, pages: Pages | None) -> Run:
    return Run(
        section=section,
        lap=f"{section} at 128",
        contestant=contestant,
        round=1,
        load_1m=0.0,
        seconds=1.0,
        others_cpu_s=0.0,
        pages=pages,
    )


def lying(file_huge_mb: int) -> Pages:
    return Pages(
        file_bytes=2000 * MB,
        file_huge_bytes=file_huge_mb * MB,
        anon_bytes=160 * MB,
        anon_huge_bytes=40 * MB,
    )


def test_files_and_own_memory_are_told_apart() -> None:
    assert parse(ROLLUP) == Pages(
        file_bytes=4000 * 1024,
        file_huge_bytes=2048 * 1024,
        anon_bytes=5000 * 1024,
        anon_huge_bytes=4096 * 1024,
    )


@pytest.mark.parametrize("field", ["Rss", "Anonymous", "AnonHugePages", "FilePmdMapped"])
def test_a_kernel_that_does_not_tell_is_said_so(field: str) -> None:
    with pytest.raises(ValueError, match=f"without '{field}:'"):
        parse(ROLLUP.replace(f"{field}: ", "Other: "))


@given(st.text(max_size=200))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="smaps_rollup without"):
        parse(text)


def test_a_process_has_memory() -> None:
    pages = read_pages(os.getpid())
    assert 0 <= pages.file_huge_bytes <= pages.file_bytes
    assert 0 <= pages.anon_huge_bytes <= pages.anon_bytes
    assert pages.file_bytes
    assert pages.anon_bytes


def test_turns_of_a_section_are_told_together() -> None:
    runs = [
        run("decode", "ours", lying(1900)),
        run("decode", "peer", lying(0)),
        run("decode", "ours", lying(1000)),
        run("decode", "ours", lying(2000)),
        run("decode", "ours", None),
        run("prefill", "ours", lying(2000)),
    ]
    ours, peer, prefill = pages_notes(runs)
    assert ours == (
        "decode, ours: in huge pages 1.90 (1.00 to 2.00) of 2.00 GB of files, "
        "0.04 (0.04 to 0.04) of 0.16 GB of its own"
    )
    assert peer.startswith("decode, peer: in huge pages 0.00 (0.00 to 0.00) of 2.00 GB")
    assert prefill.startswith("prefill, ours: ")


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert pages_notes([run("decode", "ours", None)]) == []

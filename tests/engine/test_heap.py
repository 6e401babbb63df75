"""Large blocks of memory while a model is loaded, in a process whose heap is still small."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.engine.heap import fresh_blocks, give_back

SCRIPT = """
import ctypes
from contextlib import nullcontext
from edge_agent.engine.heap import fresh_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def used_before(num_bytes):
    block = libc.malloc(num_bytes)
    middle = (ctypes.c_char * 4096).from_address(block + num_bytes // 2).raw
    ctypes.memset(block, 0xAA, num_bytes)
    libc.free(block)
    return any(middle)

with {context}():
    print(any([used_before(num_bytes) for num_bytes in [1 << 20, 3 << 19, 1 << 20, 1 << 20]]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library")
@pytest.mark.parametrize(("context", "told"), [("fresh_blocks", "False"), ("nullcontext", "True")])
def test_large_blocks_are_fresh_pages_only_while_asked_for(context: str, told: str) -> None:
    script = [sys.executable, "-c", SCRIPT.format(context=context)]

    assert subprocess.run(script, check=True, capture_output=True, text=True).stdout == f"{told}\n"


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())

    with fresh_blocks():
        pass


def resident_bytes() -> int:
    """Return this process's own memory, without file pages."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise AssertionError


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library")
def test_memory_of_small_objects_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    blocks = [libc.malloc(2000) for _ in range(50_000)]
    for block in blocks:
        ctypes.memset(block, 1, 2000)
    for block in blocks[:-1]:  # the last one keeps the heap's end where it is
        libc.free(block)
    before = resident_bytes()
    give_back()

    assert before - resident_bytes() > 50 << 20
    libc.free(blocks[-1])

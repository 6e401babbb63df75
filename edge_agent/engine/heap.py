"""How the C library hands out memory while a model loads, and gives it back."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_APART_BYTES = 128 << 10
# What glibc would arrive at by itself after a large block was freed once: its upper bound.
_USUAL_BYTES = 32 << 20


@contextmanager
def fresh_blocks() -> Iterator[None]:
    """Give every block of 128 KiB and more pages of its own, which are zero; for loading a model.

    onnxruntime knows prepared weights by a hash of the packed ones, which covers alignment bytes
    nobody writes (ort#29163). In used memory they are random, the hash misses, and the weight stays
    on the heap: 70 MB of the real shape's first two layers and head, where 25 MB would do.

    Only for loading: an engine that goes on so pays page faults for each large numpy array, a
    millisecond per sampled token of 200,064 logits. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, _APART_BYTES)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _USUAL_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, 2 * _USUAL_BYTES)


def give_back() -> None:
    """Return memory that was freed to the system, as far as the C library can (glibc's can).

    Loading a tokenizer of 200,000 tokens leaves 75 MB behind, a prompt of a megabyte up to 140 MB:
    many small objects, which glibc keeps for the next ones.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)

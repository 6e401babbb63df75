"""Beginnings of prompts that are known beforehand: computed once, kept in files, mapped at start.

A gateway's own system prompts and tools are in nearly every prompt it gets. What the KV cache holds
of them lies beside the weights, one file for each beginning, and is copied from there into the slot
of a prompt that begins so: the first after a start too. Files are pages that the system may drop
and read again, so use never evicts them and short memory never asks for them back. A file that is
damaged, or made for other weights, is made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import Struct

from edge_agent.engine.batch import Row
from edge_agent.errors import EdgeError
from edge_agent.messages import Beginning
from edge_agent.modelstore.scales import find_scales

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.engine.decoder import Decoder
    from edge_agent.engine.kv_cache import KvDtype
    from edge_agent.engine.prefix import Prefixes
    from edge_agent.engine.prepare import Preparer
    from edge_agent.modelstore.manifest import Manifest

logger = logging.getLogger(__name__)

# A name that no manifest may list: it is this machine's own, and goes with the package.
_PREFIX, _SUFFIX = "pinned.prepared.", ".kv"
_UNFINISHED = ".unfinished"
_FORMAT = 1
# The numbers begin at a page, whatever comes before them.
_HEADER_BYTES = 4096
# 2,000 tokens of the largest cache there is (fp32, Phi-4-mini): a longer text is a document.
_MOST_FILE_BYTES = 512 << 20


class _Header(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: int
    key: str
    sha256: str
    """Of all that follows the header."""


def read_pinned(path: Path | None) -> tuple[Beginning, ...]:
    """Return what the JSON file at `path` lists; nothing without a file."""
    if path is None:
        return ()
    return msgspec.json.decode(path.read_bytes(), type=tuple[Beginning, ...])


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinner:
    """Puts beginnings into an engine that has no request yet."""

    preparer: Preparer
    decoder: Decoder
    prefixes: Prefixes
    shelf: Shelf
    context: int
    chunk_tokens: int

    def pin(self, all_pinned: Sequence[Beginning]) -> None:
        """Pin each of them, computed now if there is no file; what cannot be is logged."""
        kept: set[str] = set()
        for pinned in all_pinned:
            try:
                tokens = self.preparer.beginning(pinned.system, pinned.tools)
            except EdgeError as exc:
                logger.warning("prefix not pinned name=%s reason=%s", pinned.name, exc)
                continue
            for offset in self._offsets():
                kept.add(self._pin(pinned.name, tokens, offset))
        self.shelf.tidy(kept)

    def _offsets(self) -> Iterator[int]:
        """Yield where positions begin: keys of the short and of the long mode are not the same."""
        rope = self.decoder.rope
        yield 0
        if self.context > rope.short_limit:
            yield rope.long_offset

    def _pin(self, name: str, tokens: Sequence[int], offset: int) -> str:
        """Pin one beginning; return the name of its file."""
        key = self.shelf.key(tokens, offset)
        arena = self.decoder.arena
        problem = self._problem(len(tokens))
        strips = None if problem else self.shelf.find(key, arena.strips_shape(len(tokens)))
        is_new = strips is None
        if strips is None and problem is None:
            try:
                strips = self.shelf.put(key, self._computed(tokens, offset))
            except OSError as exc:
                problem = f"cannot be written: {exc}"
        if strips is None:
            logger.warning("prefix not pinned name=%s reason=%s", name, problem)
            return key
        row = arena.attach(strips)
        self.prefixes.pin(row, np.asarray(tokens, np.int32), offset=offset)
        logger.info(
            "prefix pinned name=%s tokens=%d bytes=%d %s",
            name,
            len(tokens),
            strips.nbytes,
            "computed" if is_new else "mapped",
        )
        return key

    def _problem(self, num_tokens: int) -> str | None:
        """Return why a beginning of so many tokens cannot be pinned."""
        if not num_tokens:
            return "prompts with and without it begin alike"
        if num_tokens >= self.context:
            return f"{num_tokens} tokens are more than the context of {self.context} leaves"
        num_bytes = self.decoder.arena.bytes_of(num_tokens)
        if num_bytes > _MOST_FILE_BYTES:
            return f"it takes {num_bytes} bytes of cache, the limit is {_MOST_FILE_BYTES}"
        return None

    def _computed(self, tokens: Sequence[int], offset: int) -> NDArray[Any]:
        """Read `tokens` in a slot; return what the cache holds then."""
        arena = self.decoder.arena
        for start in range(0, len(tokens), self.chunk_tokens):
            chunk = tokens[start : start + self.chunk_tokens]
            # One row of logits, because no step is without; nobody looks at it.
            row = Row(slot=0, past=start, tokens=chunk, num_logits=1, position_offset=offset)
            self.decoder.forward([row])
        strips = arena.strips(0, len(tokens))
        arena.release(0)
        return strips


class Shelf:
    """The files of one package and one type of cache."""

    def __init__(self, package: Path, manifest: Manifest, kv_dtype: KvDtype) -> None:
        self._package = package
        self._dtype = kv_dtype.stored
        scales = find_scales(package) if kv_dtype.stored == np.int8 else None
        facts = {
            "files": {name: file.sha256 for name, file in sorted(manifest.files.items())},
            "rope": msgspec.to_builtins(manifest.rope),
            "kv_dtype": str(kv_dtype),
            "scales": None if scales is None else hashlib.sha256(scales.read_bytes()).hexdigest(),
        }
        self._identity = json.dumps(facts, sort_keys=True).encode()

    def key(self, tokens: Sequence[int], offset: int) -> str:
        """Return what tells the beginning `tokens` at `offset` from all others, and its file."""
        digest = hashlib.sha256(self._identity)
        digest.update(np.asarray([offset, *tokens], "<i8").tobytes())
        return digest.hexdigest()[:32]

    def find(self, key: str, shape: tuple[int, ...]) -> NDArray[Any] | None:
        """Map the strips of `key`, of `shape`; None if there are none, or none that are whole."""
        path = self._path(key)
        try:
            strips = np.memmap(path, self._dtype, "r", offset=_HEADER_BYTES, shape=shape)
            header = _read_header(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            logger.warning("pinned prefix made again file=%s reason=%s", path.name, exc)
            return None
        if header.key != key or header.sha256 != _hash(strips):
            logger.warning("pinned prefix made again file=%s reason=damaged", path.name)
            return None
        return strips

    def put(self, key: str, strips: NDArray[Any]) -> NDArray[Any]:
        """Write `strips` whole or not at all, and map what was written.

        Raises:
            OSError: disk full, or the directory cannot be written.
        """
        path = self._path(key)
        header = _Header(format=_FORMAT, key=key, sha256=_hash(strips))
        unfinished = path.with_name(path.name + _UNFINISHED)
        try:
            with unfinished.open("wb") as file:
                file.write(msgspec.json.encode(header).ljust(_HEADER_BYTES))
                file.write(np.ascontiguousarray(strips).data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            raise
        return np.memmap(path, self._dtype, "r", offset=_HEADER_BYTES, shape=strips.shape)

    def tidy(self, kept: set[str]) -> None:
        """Remove the files of this package but those of the keys `kept`."""
        names = {self._path(key).name for key in kept}
        for path in self._package.glob(f"{_PREFIX}*"):
            if path.name not in names:
                with suppress(OSError):  # a package that cannot be written stays as it is
                    path.unlink()

    def _path(self, key: str) -> Path:
        return self._package / f"{_PREFIX}{key}{_SUFFIX}"


def _read_header(path: Path) -> _Header:
    with path.open("rb") as file:
        return msgspec.json.decode(file.read(_HEADER_BYTES), type=_Header)


def _hash(strips: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(strips).data).hexdigest()

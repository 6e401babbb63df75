"""The wire between daemon and engine process: length-prefixed MessagePack of our own structs.

Frames are a 4-byte big-endian length and that many bytes. The child trusts its parent and the
reverse, but not the length: a frame over `MAX_FRAME_BYTES` is a broken link, not an allocation.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edge_agent.messages import Event, Request

if TYPE_CHECKING:
    from collections.abc import Iterator

# The largest frame is a request; bodies are limited to 64 MiB at most, and JSON shrinks.
MAX_FRAME_BYTES = 80 << 20
# More than there is of anything: of what ended requests leave, as much is kept as is configured.
AS_CONFIGURED_BYTES = 1 << 62
_HEADER = struct.Struct(">I")


class Run(Struct, frozen=True, tag="run"):
    """Parent to child: answer this request."""

    request: Request


class Cancel(Struct, frozen=True, tag="cancel"):
    """Parent to child: stop working on `id`; its stream ends with `Failed(cancelled)`."""

    id: str


class Shrink(Struct, frozen=True, kw_only=True, tag="shrink"):
    """Parent to child: of ended requests keep at most so many bytes of KV cache from now on."""

    to_bytes: int


class Stop(Struct, frozen=True, tag="stop"):
    """Parent to child: end now."""


class Ready(Struct, frozen=True, kw_only=True, tag="ready"):
    """Child to parent: the model is loaded."""

    model: str
    context: int
    slots: int
    threads: int
    load_s: float


class Emit(Struct, frozen=True, kw_only=True, tag="emit"):
    """Child to parent: the next event of request `id`."""

    id: str
    event: Event


class Started(Struct, frozen=True, kw_only=True, tag="started"):
    """Child to parent: request `id` got a slot; from now on it is a suspect of a crash."""

    id: str


class Paused(Struct, frozen=True, kw_only=True, tag="paused"):
    """Child to parent: request `id` lost its slot to a more urgent one, and will get one again."""

    id: str


class Drafts(Struct, frozen=True, kw_only=True):
    """Guessed tokens since an engine started: those that were verified, and that came true."""

    drafted: int = 0
    accepted: int = 0

    def __add__(self, other: Drafts) -> Drafts:
        return Drafts(drafted=self.drafted + other.drafted, accepted=self.accepted + other.accepted)


class Beat(Struct, frozen=True, kw_only=True, tag="beat"):
    """Child to parent, at least once a second while healthy: alive, how busy, how full."""

    steps: int
    running: int
    waiting: int
    running_tokens: int = 0
    """Of running requests, in the KV cache."""
    kept_bytes: int = 0
    """Of ended requests, in the KV cache."""
    drafts: Drafts = Drafts()


class LoadFailed(Struct, frozen=True, kw_only=True, tag="load_failed"):
    """Child to parent: the model cannot be loaded; restarting will not help."""

    message: str


ToChild = Run | Cancel | Shrink | Stop
ToParent = Ready | Started | Paused | Emit | Beat | LoadFailed


class LinkBroken(Exception):
    """The other side sent something that is no frame."""


_encoder = msgspec.msgpack.Encoder()


def encode(message: ToChild | ToParent) -> bytes:
    """Return `message` as one frame."""
    body = _encoder.encode(message)
    return _HEADER.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frames of one direction."""

    def __init__(self, kinds: type | object) -> None:
        self._decoder: msgspec.msgpack.Decoder[object] = msgspec.msgpack.Decoder(kinds)
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[object]:
        """Take bytes as they came; yield every message that is complete.

        Raises:
            LinkBroken: a length over `MAX_FRAME_BYTES`, or a body that is not of our messages.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            (length,) = _HEADER.unpack_from(self._buffer)
            if length > MAX_FRAME_BYTES:
                msg = f"frame of {length} bytes"
                raise LinkBroken(msg)
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            body = bytes(memoryview(self._buffer)[_HEADER.size : end])
            del self._buffer[:end]
            try:
                yield self._decoder.decode(body)
            except msgspec.DecodeError as exc:
                raise LinkBroken(str(exc)) from exc

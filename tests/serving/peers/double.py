"""A server that speaks both protocols of peers on a real socket, and misbehaves as it is told.

It reads HTTP just well enough to find the body of a request, and writes what a script says, byte
by byte if need be: proper servers refuse to be as broken as peers can be.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.loopback import Loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MODEL = "phi-4-mini"
WORDS = ("The ", "capital ", "of ", "France ", "is ", "Paris.")
SHOW = "/api/show"
USAGE = {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}


@dataclass
class Fault:
    """How the next answers go wrong; the default is a good answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """In place of an answer."""
    media_type: str | None = None
    freeze_after: int | None = None
    """Say nothing more after so many pieces; 0: not even a header."""
    die_after: int | None = None
    """Cut the connection after so many pieces; 0: not even a header."""
    cut_at_byte: int | None = None
    """Cut the connection after so many bytes of the body."""
    byte_every_s: float | None = None
    """One byte at a time."""
    pieces: list[bytes] | None = None
    """These bytes for an answer, each a piece of its own."""
    is_endless: bool = False


class Double(Loopback):
    """The server; `fault` holds for every answer until it is changed."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.fault = Fault()
        self.sick: Fault | None = None
        """How probes go wrong."""
        self.owner = "vllm"
        """Whose server it pretends to be."""
        self.tells: dict[str, object] = {}
        """What it tells probes at paths, in place of what doubles tell; None: there is no such."""
        self.frozen: set[str] = set()
        """Paths at which probes get no answer."""
        self.probed: list[str] = []
        """Paths that probes asked for."""
        self.bodies: list[dict[str, Any]] = []
        """Of the requests for an answer."""
        self.headers: list[dict[str, str]] = []
        self.left = 0
        """Answers that the other side did not wait for the end of."""
        self.received = bytearray()
        self.faults: Callable[[dict[str, Any]], Fault] = lambda _: self.fault

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except asyncio.IncompleteReadError as exc:
            self.received += exc.partial

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.received += head
        first, *lines = head.decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
        path = first.split()[1]
        data = await reader.readexactly(int(headers.get("content-length", "0")))
        self.received += data
        if first.startswith("GET") or path == SHOW:
            self.probed.append(path)
            if path in self.frozen:
                await asyncio.Event().wait()
            about = self._about(path)
            there = Fault() if about is not None else Fault(status=404)
            await self._tell(writer, self.sick or there, about or b"")
            return
        body = json.loads(data)
        self.bodies.append(body)
        self.headers.append(headers)
        watch = asyncio.create_task(reader.read(1))
        work = asyncio.create_task(self._stream(writer, self.faults(body), body))
        try:
            await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                self.left += 1
        finally:
            for part in (watch, work):
                part.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)

    def _about(self, path: str) -> bytes | None:
        """Return what a probe is told, when the double is well."""
        trees: dict[str, object] = {
            "/api/tags": {"models": [{"name": f"{MODEL}:latest", "model": f"{MODEL}:latest"}]},
            "/v1/models": {"object": "list", "data": [{"id": MODEL, "owned_by": self.owner}]},
            "/props": {"chat_template_caps": {"supports_tools": True}},
            "/health": {},
            **self.tells,
        }
        tree = trees.get(path)
        return tree if tree is None or isinstance(tree, bytes) else json.dumps(tree).encode()

    async def _tell(self, writer: asyncio.StreamWriter, fault: Fault, body: bytes) -> None:
        if fault.freeze_after == 0:
            await asyncio.Event().wait()
        body = body if fault.body is None else fault.body
        media_type = fault.media_type or "application/json"
        headers = {"Content-Type": media_type, "Content-Length": str(len(body)), **fault.headers}
        writer.write(_head(fault.status, headers) + body)
        await writer.drain()
        writer.close()

    async def _stream(
        self, writer: asyncio.StreamWriter, fault: Fault, body: dict[str, Any]
    ) -> None:
        if fault.freeze_after == 0:
            await asyncio.Event().wait()
        if fault.die_after == 0:
            return
        if fault.status != 200 or fault.body is not None:
            await self._tell(writer, fault, b"")
            return
        media_type = fault.media_type or (
            "application/x-ndjson" if self.kind == "ollama" else "text/event-stream; charset=utf-8"
        )
        headers = {"Content-Type": media_type, "Transfer-Encoding": "chunked", **fault.headers}
        writer.write(_head(200, headers))
        pieces = fault.pieces or answer(self.kind, body.get("model", MODEL))
        if not await self._send_all(writer, pieces, fault):
            return
        while fault.is_endless:
            await self._send(writer, pieces[1], fault)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def _send_all(
        self, writer: asyncio.StreamWriter, pieces: list[bytes], fault: Fault
    ) -> bool:
        """Send the pieces, if all goes well; tell whether it did."""
        sent_bytes = 0
        for number, piece in enumerate(pieces):
            if fault.freeze_after == number:
                await writer.drain()
                await asyncio.Event().wait()
            if fault.die_after == number:
                await writer.drain()
                return False
            if fault.cut_at_byte is not None and sent_bytes + len(piece) > fault.cut_at_byte:
                part = piece[: fault.cut_at_byte - sent_bytes]
                writer.write(b"%x\r\n%b" % (len(piece), part))  # in the middle of a chunk
                await writer.drain()
                return False
            sent_bytes += len(piece)
            await self._send(writer, piece, fault)
        return True

    async def _send(self, writer: asyncio.StreamWriter, piece: bytes, fault: Fault) -> None:
        if fault.byte_every_s is None:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            return
        for index in range(len(piece)):
            writer.write(b"1\r\n%b\r\n" % piece[index : index + 1])
            await writer.drain()
            await asyncio.sleep(fault.byte_every_s)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def answer(kind: str, model: str = MODEL, words: Sequence[str] = WORDS) -> list[bytes]:
    """Return the pieces of a good answer, one per write."""
    return (_ollama if kind == "ollama" else _openai)(model, words)


def _ollama(model: str, words: Sequence[str]) -> list[bytes]:
    base = {"model": model, "created_at": "2026-08-21T10:00:00.123456Z"}
    lines: list[dict[str, Any]] = [
        {**base, "message": {"role": "assistant", "content": word}, "done": False} for word in words
    ]
    lines.append(
        {
            **base,
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "total_duration": 5_000_000,
            "prompt_eval_count": USAGE["prompt_tokens"],
            "eval_count": USAGE["completion_tokens"],
        }
    )
    return [json.dumps(line).encode() + b"\n" for line in lines]


def _openai(model: str, words: Sequence[str]) -> list[bytes]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word, "tool_calls": None} for word in words]
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]}
        for delta in deltas
    ]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    chunks.append({"choices": [], "usage": USAGE})
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    events = [b"data: " + json.dumps({**base, **chunk}).encode() + b"\n\n" for chunk in chunks]
    return [*events, b"data: [DONE]\n\n"]

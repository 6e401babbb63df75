"""A hub on loopback, as the real one looks to those who download, with faults on demand.

`/api/models/REPO/revision/REV` lists a commit, `/REPO/resolve/COMMIT/PATH` gives small files and
redirects to a store for large ones, which sends ranges. `/any/PATH` is a plain web server's.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE_BYTES = 4096  # from here on a file is kept by its sha256


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong with one request."""

    status: int | None = None
    retry_after: str | None = None
    cut_after_bytes: int | None = None
    stalls: bool = False
    """Sends what comes before the cut, and then nothing, without an end."""
    flips_a_bit: bool = False
    ignores_range: bool = False
    location: str | None = None


@dataclass(kw_only=True)
class Hub:
    """What the server has, how it will fail, and what it was asked for."""

    repo: str = "tiny/model"
    files: dict[str, bytes] = field(default_factory=dict)
    """By path in the repository."""
    gated: bool | str = False
    commit: str = COMMIT
    port: int = 0
    faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    """By file name, or `listing`: the next requests fail so, one each."""
    sent_bytes: Counter[str] = field(default_factory=Counter)
    asked: list[str] = field(default_factory=list)
    """Every request: the method, its path, and its Range if it has one."""
    keys: list[str] = field(default_factory=list)
    """What came as `Authorization`."""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listing(self) -> dict[str, object]:
        return {
            "id": self.repo,
            "modelId": self.repo,
            "sha": self.commit,
            "gated": self.gated,
            "private": False,
            "siblings": [_sibling(path, data) for path, data in self.files.items()],
        }


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` until the end of the block."""

    class Handler(_Handler):
        pass

    Handler.hub = hub
    with _Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        hub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            hub.released.set()
            server.shutdown()
            thread.join()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _sibling(path: str, data: bytes) -> dict[str, object]:
    facts: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": git_blob(data)}
    if len(data) >= LARGE_BYTES:
        sha256 = hashlib.sha256(data).hexdigest()
        facts["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
    return facts


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that hangs up is what many a test wants


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        wanted_range = self.headers.get("Range")
        self.hub.asked.append(" ".join(filter(None, ["GET", path, wanted_range])))
        self.hub.keys.extend(self.headers.get_all("Authorization", []))
        if path.startswith("/api/"):
            self._list(path)
        elif path.startswith(("/store/", "/any/")):
            self._send_file(path.split("/", 2)[2])
        else:
            self._resolve(path)

    def log_message(self, *_: object) -> None:
        pass

    def _list(self, path: str) -> None:
        fault = self._next_fault("listing")
        if fault.status is not None:
            self._refuse(fault)
        elif not path.startswith(f"/api/models/{self.hub.repo}/revision/"):
            self._say(401, {"X-Error-Code": "RepoNotFound"}, b"{}")
        elif path.rsplit("/", 1)[1] not in {"main", self.hub.commit}:
            self._say(404, {"X-Error-Code": "RevisionNotFound"}, b"{}")
        else:
            body = json.dumps(self.hub.listing()).encode()
            self._say(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, path: str) -> None:
        prefix = f"/{self.hub.repo}/resolve/{self.hub.commit}/"
        name = path.removeprefix(prefix)
        data = self.hub.files.get(name) if path.startswith(prefix) else None
        if data is None:
            self._say(404, {"X-Error-Code": "EntryNotFound"}, b"")
        elif len(data) < LARGE_BYTES:
            self._send_file(name)
        else:
            sha256 = hashlib.sha256(data).hexdigest()
            facts = {"X-Repo-Commit": self.hub.commit, "X-Linked-Etag": f'"{sha256}"'}
            facts |= {"X-Linked-Size": str(len(data)), "Location": f"{self.hub.url}/store/{name}"}
            self._say(302, facts, b"")

    def _send_file(self, path: str) -> None:
        name = PurePosixPath(path).name
        fault = self._next_fault(name)
        if fault.status is not None:
            self._refuse(fault)
        elif path not in self.hub.files:
            self._say(404, {}, b"")
        else:
            self._send_data(name, self.hub.files[path], fault)

    def _send_data(self, name: str, data: bytes, fault: Fault) -> None:
        start = 0
        if (wanted := self.headers.get("Range")) and not fault.ignores_range:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if fault.flips_a_bit:
            data = data[:-1] + bytes([data[-1] ^ 1])
        stop = len(data) if fault.cut_after_bytes is None else start + fault.cut_after_bytes
        self.wfile.write(data[start:stop])
        self.hub.sent_bytes[name] += len(data[start:stop])
        if fault.stalls:
            self.wfile.flush()
            self.hub.released.wait()
        self.close_connection = stop < len(data)

    def _refuse(self, fault: Fault) -> None:
        assert fault.status is not None
        named = {"Retry-After": fault.retry_after, "Location": fault.location}
        self._say(fault.status, {name: value for name, value in named.items() if value}, b"no")

    def _say(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _next_fault(self, name: str) -> Fault:
        queue = self.hub.faults[name]
        return queue.popleft() if queue else Fault()

"""Whom a download trusts: certificates, and this machine itself."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore.download import Remote, download
from edge_agent.modelstore.retry import Patience
from edge_agent.modelstore.web import is_this_machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = b"weights" * 1000


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Return a file with a key and its certificate for localhost, which nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    path = tmp_path / "server.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(path), "-out", str(tmp_path / "public.pem")]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "public.pem").read_bytes())
    return path


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: object) -> None:
        pass


class _Server(HTTPServer):
    def handle_error(self, *_: object) -> None:
        pass  # a client that does not trust us hangs up


@contextmanager
def serving(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://localhost:{server.server_address[1]}/x"
        finally:
            server.shutdown()
            thread.join()


def fetch(url: str, directory: Path) -> bytes:
    wanted = Remote(name="x", url=url, bytes=len(DATA), sha256=hashlib.sha256(DATA).hexdigest())
    patience = Patience(tries=1)
    download([wanted], directory, report=lambda _: None, say=lambda _: None, patience=patience)
    return (directory / "x").read_bytes()


def test_a_certificate_that_the_system_trusts_is_enough(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "public.pem"))
    monkeypatch.setenv("NO_PROXY", "*")

    with serving(certificate) as url:
        assert fetch(url, tmp_path) == DATA


def test_a_certificate_that_nobody_trusts_is_refused_at_once(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")

    with (
        serving(certificate) as url,
        pytest.raises(ModelError, match="the certificate is not to be trusted"),
    ):
        fetch(url, tmp_path)


@pytest.mark.parametrize(
    ("url", "is_ours"),
    [
        ("http://127.0.0.1/x", True),
        ("http://127.9.9.9:80/x", True),
        ("http://[::1]:80/x", True),
        ("http://localhost/x", True),
        ("http://localhost.example.com/x", False),
        ("http://127.0.0.1.example.com/x", False),
        ("http://127.0.0.1@example.com/x", False),
        ("http://10.0.0.1/x", False),
        ("http:///x", False),
    ],
)
def test_this_machine_is_told_from_others(url: str, is_ours: bool) -> None:
    assert is_this_machine(url) is is_ours

"""Downloads from a server that fails in every way it can."""

from __future__ import annotations

import hashlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore import web
from edge_agent.modelstore.download import Remote, download, missing_bytes
from edge_agent.modelstore.retry import Patience
from tests.modelstore.hub import Fault, Hub, git_blob, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = random.Random(1).randbytes(1_000_000)  # noqa: S311  # any bytes
QUICK = Patience(tries=3, first_s=0.001, longest_s=0.001, longest_asked_s=1.0)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running(Hub(files={"large": LARGE, "small": b"{}"})) as served:
        yield served


class Told:
    """What a download reported."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.words: list[str] = []


def remote(hub: Hub, name: str = "large", **other: object) -> Remote:
    data = hub.files[name]
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), **other}
    return Remote(name=name, url=f"{hub.url}/any/{name}", **facts)  # type: ignore[arg-type]


def fetch(directory: Path, *files: Remote) -> Told:
    told = Told()
    download(files, directory, report=told.bytes.append, say=told.words.append, patience=QUICK)
    return told


def test_files_arrive_whole_and_nothing_else_is_left(hub: Hub, tmp_path: Path) -> None:
    told = fetch(tmp_path, remote(hub), remote(hub, "small"))

    assert (tmp_path / "large").read_bytes() == LARGE
    assert (tmp_path / "small").read_bytes() == b"{}"
    assert len(list(tmp_path.iterdir())) == 2
    assert told.bytes == sorted(told.bytes)
    assert told.bytes[-1] == len(LARGE) + 2
    assert told.words == []


def test_what_is_here_is_not_fetched_again(hub: Hub, tmp_path: Path) -> None:
    fetch(tmp_path, remote(hub))
    fetch(tmp_path, remote(hub))

    assert len(hub.asked) == 1
    assert missing_bytes([remote(hub), remote(hub, "small")], tmp_path) == 2


def test_a_part_is_completed_by_the_rest(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "large.part").write_bytes(LARGE[:700_000])
    assert missing_bytes([remote(hub)], tmp_path) == 300_000

    fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE
    assert hub.sent_bytes["large"] == 300_000
    assert hub.asked == ["GET /any/large bytes=700000-"]


def test_a_whole_part_needs_no_server(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "large.part").write_bytes(LARGE)

    fetch(tmp_path, remote(hub))

    assert hub.asked == []


def test_cut_connections_are_resumed_as_long_as_bytes_arrive(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].extend([Fault(cut_after_bytes=100_000)] * 8)  # more than it has tries

    told = fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE
    assert hub.sent_bytes["large"] == len(LARGE)
    assert len(told.words) == 8
    assert "cut off after 100000 of 1000000 bytes; next try" in told.words[0]


def test_a_server_that_is_gone_is_given_up_and_the_part_is_kept(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].extend([Fault(cut_after_bytes=100_000), *[Fault(cut_after_bytes=0)] * 9])

    with pytest.raises(ModelError, match="cut off after 100000 of 1000000 bytes"):
        fetch(tmp_path, remote(hub))

    assert (tmp_path / "large.part").read_bytes() == LARGE[:100_000]


def test_nobody_listening_is_said(tmp_path: Path) -> None:
    with running(Hub(files={"large": LARGE})) as gone:
        wanted = remote(gone)

    with pytest.raises(ModelError, match=r"no connection to 127\.0\.0\.1:\d+ \(.*refused"):
        fetch(tmp_path, wanted)


def test_a_stalled_connection_is_left(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "STALL_LIMIT_S", 0.2)
    hub.faults["large"].append(Fault(cut_after_bytes=400_000, stalls=True))

    told = fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE
    assert hub.sent_bytes["large"] == len(LARGE)
    assert "timed out" in told.words[0]


def test_a_server_without_ranges_sends_all_again(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "large.part").write_bytes(LARGE[:700_000])
    hub.faults["large"].append(Fault(ignores_range=True))

    fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE


@pytest.mark.parametrize("part", [b"x" * 500_000, b"x" * 1_000_000, b"x" * 1_000_001])
def test_a_part_of_something_else_is_fetched_again(hub: Hub, tmp_path: Path, part: bytes) -> None:
    (tmp_path / "large.part").write_bytes(part)

    fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE


def test_wrong_bytes_are_fetched_once_more(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].append(Fault(flips_a_bit=True))

    told = fetch(tmp_path, remote(hub))

    assert (tmp_path / "large").read_bytes() == LARGE
    assert told.words == ["large is not what it should be; fetching it again"]


def test_wrong_bytes_twice_are_refused_by_name(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].extend([Fault(flips_a_bit=True)] * 2)
    expected = hashlib.sha256(LARGE).hexdigest()

    with pytest.raises(ModelError, match=f"/any/large is not the file with hash {expected}"):
        fetch(tmp_path, remote(hub))

    assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_known_by_what_git_calls_it(hub: Hub, tmp_path: Path) -> None:
    fetch(tmp_path, remote(hub, "small", sha256=None, git_blob=git_blob(b"{}")))
    assert (tmp_path / "small").read_bytes() == b"{}"
    (tmp_path / "small").unlink()

    with pytest.raises(ModelError, match=git_blob(b"[]")):
        fetch(tmp_path, remote(hub, "small", sha256=None, git_blob=git_blob(b"[]")))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_waited_for(hub: Hub, tmp_path: Path, status: int) -> None:
    hub.faults["large"].extend([Fault(status=status, retry_after="0")] * 2)

    told = fetch(tmp_path, remote(hub))

    assert len(told.words) == 2
    assert f"status {status}" in told.words[0]


def test_a_server_that_asks_for_too_long_a_pause_is_left(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].append(Fault(status=429, retry_after="3600"))

    with pytest.raises(ModelError, match=r"status 429 .*; asked to wait 3600 s"):
        fetch(tmp_path, remote(hub))

    assert len(hub.asked) == 1


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, "account or the acceptance of terms"),
        (403, "account or the acceptance of terms"),
        (404, "no such file"),
        (418, "status 418"),
    ],
)
def test_what_does_not_pass_is_said_at_once(
    hub: Hub, tmp_path: Path, status: int, why: str
) -> None:
    hub.faults["large"].append(Fault(status=status))

    with pytest.raises(ModelError, match=why):
        fetch(tmp_path, remote(hub))

    assert len(hub.asked) == 1


def test_a_file_of_another_size_is_refused_before_its_bytes(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 1000000 bytes, not 5"):
        fetch(tmp_path, remote(hub, bytes=5))


@pytest.mark.parametrize(
    "location", ["http://192.0.2.1/large", "ftp://127.0.0.1/large", "file:///etc/passwd"]
)
def test_a_redirect_leads_to_https_or_stays_on_this_machine(
    hub: Hub, tmp_path: Path, location: str
) -> None:
    hub.faults["large"].append(Fault(status=302, location=location))

    with pytest.raises(ModelError):
        fetch(tmp_path, remote(hub))

    assert not (tmp_path / "large").exists()


def test_redirects_have_an_end(hub: Hub, tmp_path: Path) -> None:
    hub.faults["large"].extend([Fault(status=302, location=f"{hub.url}/any/large")] * 99)

    with pytest.raises(ModelError):
        fetch(tmp_path, remote(hub))

    assert len(hub.asked) < 20


@pytest.mark.parametrize("url", ["http://192.0.2.1/x", "http://example.com/x", "file:///x", "x"])
def test_only_https_is_read(tmp_path: Path, url: str) -> None:
    wanted = Remote(name="x", url=url, bytes=1, sha256="0" * 64)

    with pytest.raises(ModelError, match="only https is read"):
        fetch(tmp_path, wanted)


def test_a_disk_that_is_full_keeps_no_part(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(OSError, match="No space"):
        fetch(tmp_path, remote(hub))

    assert list(tmp_path.iterdir()) == []

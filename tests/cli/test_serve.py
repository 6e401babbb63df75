"""What `edge-agent serve` prints for the person who started it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from edge_agent.cli.serve import Terminal
from edge_agent.config import Config, Http, Mqtt

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_addresses_are_links(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(Config()).listening([("127.0.0.1", 8080), ("::1", 11434)])
    assert capsys.readouterr().out == (
        "listening on http://127.0.0.1:8080\nlistening on http://[::1]:11434\n"
    )


def test_there_is_one_example_for_each_way_in(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(Config(mqtt=Mqtt(url="mqtt://broker.local:1884", node="gw7")))
    terminal.listening([("127.0.0.1", 8080)])
    capsys.readouterr()
    terminal.ready()
    ready, *examples = capsys.readouterr().out.splitlines()
    assert ready.startswith("ready: smollm2-135m-instruct answers")
    curl, sub, pub = (shlex.split(line) for line in examples)
    assert (curl[0], curl[-1]) == ("curl", "http://127.0.0.1:8080/v1/chat/completions")
    common = ["-h", "broker.local", "-p", "1884", "-q", "1", "-t"]
    assert sub == ["mosquitto_sub", *common, "edge/v1/gw7/response/#", "&"]
    assert pub == [
        "mosquitto_pub", *common, "edge/v1/gw7/request", "-m", "Why is the sky blue?",
    ]  # fmt: skip


def test_the_example_goes_to_loopback_when_every_address_is_served(
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal = Terminal(Config())
    terminal.listening([("0.0.0.0", 8080)])  # noqa: S104  # binds nothing
    terminal.ready()

    assert "http://127.0.0.1:8080/v1/chat" in capsys.readouterr().out


def test_a_guarded_broker_needs_more_options(capsys: pytest.CaptureFixture[str]) -> None:
    mqtt = Mqtt(url="mqtts://b", ca_file="/ca.pem", username="me", password_file="/pw")  # noqa: S106  # a path
    Terminal(Config(mqtt=mqtt)).ready()
    *_, pub = capsys.readouterr().out.splitlines()
    assert '-h b -p 8883 -q 1 --cafile /ca.pem -u me -P "$(cat /pw)" -t' in pub


def test_without_http_there_is_no_curl(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(Config(http=Http(listen=())))
    terminal.listening([])
    terminal.ready()
    assert "curl" not in capsys.readouterr().out


def test_a_key_is_named_by_its_file_and_never_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("s3cret\n")
    terminal = Terminal(Config(http=Http(api_key_file=str(keys))))
    terminal.listening([("127.0.0.1", 8080)])
    terminal.ready()
    out = capsys.readouterr().out
    assert f'-H "Authorization: Bearer $(head -n1 {keys})"' in out
    assert "s3cret" not in out

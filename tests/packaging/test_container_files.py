"""What Containerfile, compose.yaml and mosquitto.conf promise, read as plain values."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_agent.config import Config, load
from edge_agent.daemon.stopping import NUM_STAGES, STAGE_LIMIT_S

ROOT = Path(__file__).parents[2]
CONTAINER = ROOT / "container"
COMPOSE: dict[str, Any] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())
OURS: dict[str, Any] = COMPOSE["services"]["edge-agent"]
SERVICES = sorted(COMPOSE["services"])


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the final stage and their arguments, continued lines joined."""
    text = (CONTAINER / "Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    stage = text.split("\nFROM ")[-1].splitlines()[1:]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in stage)]


def argument(name: str) -> str:
    """Return the argument of the one instruction called `name`."""
    (found,) = [rest for instruction, rest in instructions() if instruction == name]
    return found


def test_the_image_runs_as_a_number_that_is_not_root() -> None:
    uid, gid = argument("USER").split(":")

    assert int(uid) > 0
    assert int(gid) > 0


def test_signals_reach_the_daemon_itself_and_not_a_shell() -> None:
    assert argument("STOPSIGNAL") == "SIGTERM"
    assert json.loads(argument("ENTRYPOINT")) == ["/opt/edge-agent/bin/edge-agent"]
    assert json.loads(argument("CMD")) == ["serve"]


def test_the_health_check_needs_no_shell() -> None:
    _, command = argument("HEALTHCHECK").split("CMD ")

    assert json.loads(command)[0] == "/opt/edge-agent/bin/python"


def test_the_build_is_sent_what_it_copies_and_no_more() -> None:
    sent = {
        line.removeprefix("!")
        for line in (CONTAINER / "Containerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    text = (CONTAINER / "Containerfile").read_text()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", text, flags=re.MULTILINE)

    assert {source for line in copies for source in line.split()} == sent
    assert all((ROOT / source).exists() for source in sent)


def test_state_is_kept_in_a_volume_where_the_daemon_writes_it() -> None:
    home = dict(pair.split("=") for pair in [argument("ENV")])["EDGE_AGENT_HOME"]

    assert argument("VOLUME") == home
    assert OURS["volumes"] == [f"state:{home}"]
    assert "state" in COMPOSE["volumes"]


def test_the_composed_environment_is_a_valid_configuration_with_a_key() -> None:
    config = load(Path("/dev/null"), OURS["environment"])

    assert config.http.listen == ("0.0.0.0:8080",)  # all of the container
    assert config.http.api_key_file
    assert config.http.api_key_file.removeprefix("/run/secrets/") in OURS["secrets"]
    assert config.mqtt.url == "mqtt://mosquitto:1883"
    assert config.mqtt.node


def test_no_secret_stands_in_the_environment() -> None:
    assert set(OURS["secrets"]) == set(COMPOSE["secrets"])
    assert all("file" in secret for secret in COMPOSE["secrets"].values())
    ignored = (CONTAINER / ".gitignore").read_text().split()
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} <= set(ignored)


def test_composing_leaves_time_for_the_whole_shutdown() -> None:
    grace_s = float(OURS["stop_grace_period"].removesuffix("s"))

    assert grace_s >= Config().daemon.drain_s + NUM_STAGES * STAGE_LIMIT_S


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_closed_and_bounded(name: str) -> None:
    service = COMPOSE["services"][name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"] == service["memswap_limit"]
    assert service["pids_limit"] > 0
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    for port in COMPOSE["services"][name]["ports"]:
        assert port.startswith("127.0.0.1:")


def test_the_broker_takes_no_larger_packet_than_we_publish() -> None:
    (largest,) = re.findall(
        r"^max_packet_size (\d+)$", (CONTAINER / "mosquitto.conf").read_text(), re.MULTILINE
    )

    assert int(largest) == Config().mqtt.max_packet_bytes

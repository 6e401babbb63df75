"""What the unit promises the daemon, and the commented configuration beside it."""

from __future__ import annotations

import itertools
import re

import yaml

from edge_agent.config import Config, Daemon, knobs, load
from edge_agent.daemon.stopping import NUM_STAGES, STAGE_LIMIT_S
from tests.packaging.unit_file import STRICT_NETWORK, SYSTEMD, UNIT, settings

CONFIGURATION = SYSTEMD / "edge-agent.yaml"


def test_systemd_waits_longer_for_the_end_than_the_daemon_drains() -> None:
    (stop_s,) = settings(UNIT)["TimeoutStopSec"]

    assert float(stop_s) >= Daemon().drain_s + NUM_STAGES * STAGE_LIMIT_S


def test_the_unit_never_gives_up_restarting() -> None:
    unit = settings(UNIT)

    assert unit["Restart"] == ["on-failure"]
    assert unit["StartLimitIntervalSec"] == ["0"]


def test_only_the_daemon_is_told_to_stop_so_that_its_engine_can_drain() -> None:
    assert settings(UNIT)["KillMode"] == ["mixed"]


def test_a_kill_of_the_engine_for_memory_does_not_end_the_service() -> None:
    assert settings(UNIT)["OOMPolicy"] == ["continue"]


def test_readiness_and_the_watchdog_are_the_daemons_own_word() -> None:
    unit = settings(UNIT)

    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]
    assert float(unit["WatchdogSec"][0]) > 0


def test_of_the_calls_that_alter_resources_only_the_choice_of_cores_is_allowed() -> None:
    # In this order: each line adds to what the lines before it have left, or takes from it.
    assert settings(UNIT)["SystemCallFilter"] == [
        "@system-service",
        "~@privileged @resources",
        "sched_setaffinity",
    ]


def test_credentials_are_optional_and_the_guide_names_each_by_its_path() -> None:
    guide = (SYSTEMD / "README.md").read_text()

    for name in settings(UNIT)["LoadCredential"]:
        # With a path behind the name a missing file would keep the service from starting.
        assert ":" not in name
        assert f"/etc/credstore/{name}" in guide
        assert f"/run/credentials/edge-agent.service/{name}" in guide


def test_the_strict_network_lets_nothing_out_of_the_site() -> None:
    drop_in = settings(STRICT_NETWORK)

    assert drop_in["IPAddressDeny"] == ["any"]
    assert set(drop_in["IPAddressAllow"][0].split()) == {
        "localhost",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "fd00::/8",
        "fe80::/10",
    }


def test_the_commented_configuration_is_the_default_configuration() -> None:
    assert load(CONFIGURATION, {}) == Config()


def test_the_commented_configuration_names_every_key() -> None:
    tree = yaml.safe_load(CONFIGURATION.read_text())
    named = {
        f"{section}.{key}" if isinstance(keys, dict) else section
        for section, keys in tree.items()
        for key in (keys if isinstance(keys, dict) else [section])
    }

    assert named == {knob.path for knob in knobs()}


def test_every_group_of_keys_is_explained() -> None:
    lines = CONFIGURATION.read_text().splitlines()

    for before, line in itertools.pairwise(lines):
        if re.match(r"  \w+: ", line):
            # A comment, or a key that shares the comment above it.
            assert re.match(r"  (#|\w+: )", before), f"nothing explains {line!r}"

"""The composed broker's configuration, as the real mosquitto reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.broker import LocalBroker

CONF = Path(__file__).parents[2] / "container" / "mosquitto.conf"


def for_this_machine(conf: str, directory: Path) -> str:
    """Return `conf` without its listener, which the test broker brings, and with its own place."""
    conf = re.sub(r"^(listener|allow_anonymous) .*\n", "", conf, flags=re.MULTILINE)
    conf = conf.replace("/mosquitto/data/", f"{directory}/")
    # Started by root it would become a user who may not enter the test's directory.
    return f"{conf}\nuser root\n"


def test_mosquitto_starts_with_the_composed_configuration(tmp_path: Path) -> None:
    with LocalBroker(tmp_path, more=for_this_machine(CONF.read_text(), tmp_path)) as broker:
        assert broker.port

    log = (tmp_path / "broker.log").read_text()
    assert "Error" not in log


def test_mosquitto_would_refuse_a_misspelt_line(tmp_path: Path) -> None:
    misspelt = CONF.read_text().replace("autosave_interval", "autosafe_interval")

    broker = LocalBroker(tmp_path, more=for_this_machine(misspelt, tmp_path))

    with pytest.raises(RuntimeError, match="autosafe_interval"):
        broker.start()

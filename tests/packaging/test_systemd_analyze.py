"""systemd's own judgement of the unit. Needs `systemd-analyze`, no running systemd."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.packaging.unit_file import PROGRAM, STRICT_NETWORK, UNIT, with_drop_in

if TYPE_CHECKING:
    from pathlib import Path

# systemd's scale of exposure, 0 to 10, times ten.
GATE = 15
STRICT_GATE = 11


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def exposure(unit: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    return analyze("security", "--offline=true", f"--threshold={threshold}", str(unit))


def test_the_unit_is_closed_enough() -> None:
    verdict = exposure(UNIT, GATE)

    assert verdict.returncode == 0, verdict.stdout


def test_the_unit_behind_the_strict_network_is_closed_further(tmp_path: Path) -> None:
    strict = tmp_path / "edge-agent.service"
    strict.write_text(with_drop_in(UNIT, STRICT_NETWORK))

    verdict = exposure(strict, STRICT_GATE)

    assert verdict.returncode == 0, verdict.stdout


def test_a_unit_without_its_user_would_not_pass(tmp_path: Path) -> None:
    naive = tmp_path / "edge-agent.service"
    naive.write_text(f"[Service]\nExecStart={PROGRAM} serve\n")

    assert exposure(naive, GATE).returncode != 0


def test_systemd_knows_every_key_and_value_of_the_unit(tmp_path: Path) -> None:
    """`verify` answers 0 even for unknown keys: what counts is that it prints nothing."""
    here = tmp_path / "edge-agent.service"
    here.write_text(with_drop_in(UNIT, STRICT_NETWORK).replace(PROGRAM, "/bin/true"))

    assert analyze("verify", str(here)).stderr == ""


def test_a_misspelt_key_is_noticed(tmp_path: Path) -> None:
    here = tmp_path / "edge-agent.service"
    misspelt = UNIT.read_text().replace("WatchdogSec", "WatchdogSecs")
    here.write_text(misspelt.replace(PROGRAM, "/bin/true"))

    assert "WatchdogSecs" in analyze("verify", str(here)).stderr

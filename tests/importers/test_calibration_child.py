"""Scales come with the import, and their absence is no harm."""

from __future__ import annotations

import io
import subprocess
from typing import TYPE_CHECKING

from edge_agent.engine.kv_scales import read_kv_scales
from edge_agent.importers.calibrate import calibrate
from edge_agent.importers.calibration_child import add_scales
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.scales import OWN_SCALES, SCALES
from edge_agent.modelstore.store import check_files
from tests.importers.test_package import packaged

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_import_makes_scales_and_its_manifest_has_their_hash(
    tmp_path: Path,
) -> None:
    facts = packaged(tmp_path, add_scales=add_scales)

    package = tmp_path / "package"
    assert facts == read_manifest(package)
    assert facts.files[SCALES].bytes == (package / SCALES).stat().st_size
    assert (read_kv_scales(package, facts.shape) > 0).all()
    check_files(package, Progress(io.StringIO()))


def test_where_the_engine_cannot_run_the_package_is_whole_without(tmp_path: Path) -> None:
    facts = packaged(tmp_path, add_scales=lambda built: add_scales(built / "nowhere"))

    assert SCALES not in facts.files
    assert not (tmp_path / "package" / SCALES).exists()


def test_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "manifest.json" in (add_scales(tmp_path) or "")

    def killed(argv: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(argv, -9, "", "")

    monkeypatch.setattr(subprocess, "run", killed)
    assert add_scales(tmp_path) == "killed by signal 9"


def test_what_is_made_by_hand_later_leaves_the_package_whole(
    tmp_path: Path,
) -> None:
    packaged(tmp_path, add_scales=add_scales)
    package = tmp_path / "package"
    before = read_kv_scales(package, read_manifest(package).shape)

    calibrate(package, threads=1, text="hello world")

    assert (package / OWN_SCALES).exists()
    check_files(package, Progress(io.StringIO()))
    assert (before != read_kv_scales(package, read_manifest(package).shape)).any()

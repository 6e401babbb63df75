"""What the import of a checkpoint of Phi-4-mini's size costs. Takes 10 GB of disk and minutes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from edge_agent.modelstore.catalog import shipped_cards
from edge_agent.modelstore.manifest import read_manifest
from tests.bench import random_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

CARD = shipped_cards() / f"{random_checkpoint.NAME}.yaml"
MOST_RESIDENT_BYTES = 1_500_000_000
DISK_BYTES = 11_000_000_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("random") / "checkpoint"
    if shutil.disk_usage(path.parent).free < DISK_BYTES:
        pytest.skip(f"less than {DISK_BYTES} bytes of disk are free")
    assert random_checkpoint.write(path, CARD) == 7_672_043_520
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize(("block", "most_bytes"), [(128, 2_150_000_000), (32, 2_450_000_000)])
def test_a_checkpoint_of_real_size_is_imported_in_little_memory(
    checkpoint: Path, tmp_path: Path, block: int, most_bytes: int
) -> None:
    package = tmp_path / "package"
    command = [sys.executable, "-m", "edge_agent.importers", str(checkpoint), str(package)]
    command += ["--name", "random", "--bits", "4", "--head-bits", "4", "--block", str(block)]

    child = subprocess.Popen(command)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)  # reaped above, for its figures

    assert child.returncode == 0
    assert usage.ru_maxrss * 1024 <= MOST_RESIDENT_BYTES
    assert sum(path.stat().st_size for path in package.iterdir()) <= most_bytes
    assert read_manifest(package).quantization.block == block
    shutil.rmtree(package)

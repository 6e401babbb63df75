"""`edge-agent model prepare`, as a person and as the daemon run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from edge_agent.cli import main
from edge_agent.modelstore import disk
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import fault, find_graph, read_prepared
from tests.modelstore.tiny_package import publish_tiny

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.store import ModelStore


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    monkeypatch.setenv("EDGE_AGENT_HOME", str(tmp_path))
    return publish_tiny(tmp_path)


@pytest.fixture
def package(store: ModelStore) -> Path:
    return store.package("tiny")


def is_prepared(package: Path) -> bool:
    return fault(package, read_manifest(package)) is None


def test_a_package_is_prepared_once_verified_and_removed(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "prepare", "tiny"]) == 0
    assert "packing the weights of tiny for this machine: not prepared" in capsys.readouterr().err
    assert is_prepared(package)
    made = (package / "prepared.json").stat().st_mtime_ns

    assert main(["model", "prepare", "tiny"]) == 0
    assert "packing" not in capsys.readouterr().err
    assert (package / "prepared.json").stat().st_mtime_ns == made

    assert main(["model", "verify", "tiny"]) == 0
    assert main(["model", "remove", "tiny"]) == 0
    assert not package.exists()


def test_a_preparation_for_programs_reports_in_json_lines_only(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "prepare", "tiny", "--quick", "--json"]) == 0

    said = capsys.readouterr()
    lines = list(map(json.loads, said.out.splitlines()))
    assert {line["stage"] for line in lines} == {"prepare"}
    assert lines[-1]["done_bytes"] == lines[-1]["total_bytes"]
    assert said.err == ""

    assert main(["model", "prepare", "tiny", "--quick", "--json"]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_was_made_by_another_version_is_made_anew(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["model", "prepare", "tiny"])
    path = package / "prepared.json"
    facts = json.loads(path.read_text())
    path.write_text(json.dumps({**facts, "key": {**facts["key"], "onnxruntime": "1.0.0"}}))
    capsys.readouterr()

    assert main(["model", "prepare", "tiny", "--quick"]) == 0

    assert "made by onnxruntime 1.0.0" in capsys.readouterr().err
    assert is_prepared(package)


def test_a_tail_that_is_cut_is_made_anew(package: Path) -> None:
    main(["model", "prepare", "tiny"])
    weights = package / "weights.bin"
    os.truncate(weights, weights.stat().st_size - 1)
    assert not is_prepared(package)

    assert main(["model", "prepare", "tiny", "--quick"]) == 0

    assert is_prepared(package)


def test_a_damaged_tail_is_found_by_verify_and_made_anew_on_request(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["model", "prepare", "tiny"])
    weights = package / "weights.bin"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)

    assert main(["model", "verify", "tiny"]) == 1
    assert "are damaged" in capsys.readouterr().err
    assert main(["model", "prepare", "tiny"]) == 0
    assert "are damaged" in capsys.readouterr().err
    assert main(["model", "verify", "tiny"]) == 0


def test_weights_in_use_are_not_made_anew(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["model", "prepare", "tiny"])
    manifest = read_manifest(package)
    graph = find_graph(package, manifest, manifest.graphs["fp32"])
    assert graph.lock is not None
    before = (package / "weights.bin").read_bytes()
    (package / "prepared.json").unlink()
    (package / "prepared.unfinished").touch()

    assert main(["model", "prepare", "tiny", "--json"]) == 1

    said = capsys.readouterr()
    assert "in use by another process" in json.loads(said.out.splitlines()[-1])["error"]
    assert (package / "weights.bin").read_bytes() == before
    graph.lock.release()


def test_who_waits_for_another_preparation_finds_it_done(
    store: ModelStore, package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "edge_agent", "model", "prepare", "tiny"]
    with holding(store.lock_file("tiny"), lambda: None):
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        impatience = threading.Timer(60, waiting.kill)
        impatience.start()
        assert waiting.stderr.readline() == "another process prepares tiny; waiting for it\n"
        prepare_beside(package)
    said = waiting.communicate()[1]
    impatience.cancel()

    assert waiting.returncode == 0
    assert "packing" not in said
    assert is_prepared(package)


def prepare_beside(package: Path) -> None:
    """Prepare `package` as who has the lock would."""
    script = (
        "import io, sys; from pathlib import Path\n"
        "from edge_agent.importers.prepack import prepack\n"
        "from edge_agent.modelstore.manifest import read_manifest\n"
        "from edge_agent.modelstore.progress import Progress\n"
        "package = Path(sys.argv[1])\n"
        "prepack(package, read_manifest(package), threads=1, progress=Progress(io.StringIO()))"
    )
    subprocess.run([sys.executable, "-c", script, str(package)], check=True)


def test_a_disk_that_is_too_small_is_a_reason_in_numbers(
    package: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda _: 1_000_000)

    assert main(["model", "prepare", "tiny", "--json"]) == 1

    error = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]
    assert error.startswith("preparing tiny needs ")
    assert error.endswith("has 1 MB")
    assert read_prepared(package) is None


def test_a_home_that_cannot_be_written_is_a_reason(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "staging").rename(tmp_path / "elsewhere")
    (tmp_path / "staging").touch()

    assert main(["model", "prepare", "tiny"]) == 1

    assert "cannot write while preparing tiny" in capsys.readouterr().err


def test_an_unknown_model_is_named(store: ModelStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "prepare", "other"]) == 1

    assert "model 'other' is not here; available: tiny" in capsys.readouterr().err

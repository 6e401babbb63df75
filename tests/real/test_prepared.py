"""Prepared weights of the real model, in processes of their own: memory, and the same answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.prepared import fault
from edge_agent.modelstore.store import ModelStore
from tests.daemon_process import Served, anonymous_mb, serving

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

NAME = "smollm2-135m-instruct"
SERVE = [sys.executable, "-m", "edge_agent", "serve"]
# 102 MB of packed weights leave the heap; what else differs from load to load is a few.
LEAST_SAVED_MB = 80
# Loads the decoder, computes, and tells what memory it has of its own by then.
SCRIPT = """
import hashlib, json, re, sys
from pathlib import Path
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.modelstore.manifest import read_manifest

package = Path(sys.argv[1])
decoder = Decoder(package, read_manifest(package), slots=1, tokens=256, threads=2)
logits = decoder.forward([Row(slot=0, past=0, tokens=list(range(1000, 1064)), num_logits=64)])
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "anonymous_mb": int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]) / 1000,
    "logits": hashlib.sha256(logits.tobytes()).hexdigest(),
}))
"""


@pytest.fixture
def home(model_home: Path, tmp_path: Path) -> Path:
    """Return a home with a package of its own, as it was pulled."""
    shared, home = ModelStore(model_home).package(NAME), tmp_path / "home"
    package = home / "models" / NAME
    package.mkdir(parents=True)
    manifest = read_manifest(shared)
    for name in ("manifest.json", *manifest.files):
        shutil.copyfile(shared / name, package / name)
    os.truncate(package / "weights.bin", manifest.files["weights.bin"].bytes)
    return home


def computed(package: Path) -> dict[str, Any]:
    """Return memory and logits of a process that loads `package`."""
    command = [sys.executable, "-c", SCRIPT, str(package)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, Any] = json.loads(out)
    return figures


def test_prepared_weights_leave_the_heap_and_every_logit_as_it_was(home: Path) -> None:
    package = home / "models" / NAME
    plain = computed(package)

    command = [sys.executable, "-m", "edge_agent", "model", "prepare", NAME]
    subprocess.run(command, env={**os.environ, "EDGE_AGENT_HOME": str(home)}, check=True)
    prepared = computed(package)

    print(plain["anonymous_mb"], prepared["anonymous_mb"])  # noqa: T201  # figures
    assert prepared["logits"] == plain["logits"]
    assert prepared["anonymous_mb"] <= plain["anonymous_mb"] - LEAST_SAVED_MB


def test_a_daemon_prepares_its_model_at_its_first_start(home: Path) -> None:
    package = home / "models" / NAME

    with serving(SERVE, home) as daemon:
        assert answer(daemon)
        prepared_mb = anonymous_mb(daemon.engine())

    assert fault(package, read_manifest(package)) is None
    (package / "prepared.json").rename(package / "prepared.unfinished")
    with serving(SERVE, home, EDGE_AGENT_ENGINE__PREPARE="false") as daemon:
        assert answer(daemon)
        plain_mb = anonymous_mb(daemon.engine())
    assert fault(package, read_manifest(package)) == "not prepared"
    assert prepared_mb <= plain_mb - LEAST_SAVED_MB


def answer(daemon: Served) -> str:
    daemon.wait_ready()
    status, body = daemon.ask("What is the capital of France?", temperature=0, max_tokens=8)
    assert status == 200
    return str(body["choices"][0]["message"]["content"])

"""Nothing leaves the box by itself: the runtime's own telemetry is off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

LOAD_AND_STEP = """
import sys
from pathlib import Path
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.modelstore.manifest import read_manifest

package = Path(sys.argv[1])
decoder = Decoder(package, read_manifest(package), slots=1, tokens=128, threads=1)
decoder.forward([Row(slot=0, past=0, tokens=[1, 2, 3], num_logits=1)])
"""


def test_loading_a_model_leaves_no_trace_below_home(model_home: Path, tmp_path: Path) -> None:
    package = model_home / "models" / "smollm2-135m-instruct"
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_", "COV"))}
    subprocess.run(
        [sys.executable, "-c", LOAD_AND_STEP, str(package)],
        env=environ | {"HOME": str(tmp_path)},
        check=True,
        timeout=60,
    )

    # With telemetry on, the device id of the event collector lies here.
    assert list(tmp_path.rglob("*")) == []

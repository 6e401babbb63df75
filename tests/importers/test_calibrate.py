"""The scales of an int8 cache fit what the model computes, wherever it stands in a request."""

from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.kv_scales import read_kv_scales
from edge_agent.errors import ModelError
from edge_agent.importers import calibration
from edge_agent.importers.calibrate import calibrate
from edge_agent.importers.calibration import ROOM_OVER_LONG_TEXT, ROOM_OVER_SHORT_TEXT
from edge_agent.importers.text_pass import TEXT_TOKENS
from edge_agent.modelstore.manifest import read_manifest, write_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import check_files
from edge_agent.text.tokenizer import Tokenizer
from tests.real.parity.checkpoints import ORIGINAL_CONTEXT, PHI3
from tests.real.parity.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TEXT = "The third pump must be stopped by hand, because its seal does not like to run dry."


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built, _ = write_package(PHI3, tmp_path_factory.mktemp("phi3"))
    return built


def first_layer(
    package: Path, kv_dtype: KvDtype, *, is_long: bool
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return K and V of the first layer after TEXT, each [kv_heads, tokens, head_dim]."""
    manifest = read_manifest(package)
    tokens = Tokenizer.load(package / "tokenizer.json").encode(TEXT)
    decoder = Decoder(package, manifest, slots=1, tokens=256, threads=1, kv_dtype=kv_dtype)
    offset = decoder.rope.long_offset if is_long else 0
    row = Row(slot=0, past=0, tokens=tokens, num_logits=1, position_offset=offset)
    decoder.forward([row])
    keys, values = decoder.arena.layers[0]
    return keys[0, :, : len(tokens)], values[0, :, : len(tokens)]


@pytest.mark.parametrize("is_long", [False, True], ids=["short", "long"])
def test_what_is_cached_is_off_by_half_a_step_at_most(package: Path, is_long: bool) -> None:
    calibrate(package, threads=1, text=TEXT)
    scales = read_kv_scales(package, read_manifest(package).shape)[0]

    floats = first_layer(package, KvDtype.FP32, is_long=is_long)
    cached = first_layer(package, KvDtype.INT8, is_long=is_long)

    for exact, steps, scale in zip(floats, cached, scales[:, :, np.newaxis], strict=True):
        assert steps.dtype == np.int8
        assert (np.abs(steps * scale - exact) <= 0.501 * scale).all()
        assert np.abs(steps).max() > 60  # no more room than is of use


def test_both_channels_of_a_pair_have_one_scale(package: Path) -> None:
    calibrate(package, threads=1, text=TEXT)

    keys = read_kv_scales(package, read_manifest(package).shape)[:, 0]
    assert np.array_equal(keys[..., :24], keys[..., 24:48])
    assert not np.array_equal(keys[..., 48:56], keys[..., 56:64])


def test_no_more_is_read_than_the_context_holds(package: Path) -> None:
    assert calibrate(package, threads=1, text=TEXT * 100) == 512


def both_scales(package: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the scales of the import and those of `calibrate`, without their room."""
    shape = read_manifest(package).shape
    of_import = read_kv_scales(package, shape) / np.float32(ROOM_OVER_SHORT_TEXT)
    calibrate(package, threads=2)
    return of_import, read_kv_scales(package, shape) / np.float32(ROOM_OVER_LONG_TEXT)


def reads_no_more_than(package: Path, tokens: int) -> None:
    facts = msgspec.structs.replace(read_manifest(package), context=tokens)
    (package / "manifest.json").unlink()
    write_manifest(package, facts)


def test_the_import_finds_what_the_engine_does(tmp_path: Path) -> None:
    package, _ = write_package(PHI3, tmp_path, text=calibration.TEXT)
    reads_no_more_than(package, ORIGINAL_CONTEXT)

    imported, calibrated = both_scales(package)

    np.testing.assert_allclose(imported, calibrated, rtol=1e-3)
    check_files(package, Progress(io.StringIO()))  # those of the import, unharmed


@pytest.mark.real
def test_the_import_of_real_weights_finds_what_the_engine_does(
    model_home: Path, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    original = model_home / "models" / "smollm2-135m-instruct"
    shutil.copytree(original, package, copy_function=os.symlink)
    reads_no_more_than(package, TEXT_TOKENS)

    imported, calibrated = both_scales(package)

    ratio = imported / calibrated
    assert np.percentile(np.abs(ratio - 1), 99) < 0.02
    assert np.abs(ratio - 1).max() < 0.1


def test_the_verb_makes_what_its_error_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "import").mkdir()
    built, manifest = write_package(PHI3, tmp_path / "import")
    built = built.rename(tmp_path / "models" / "tiny-phi")
    monkeypatch.setenv("EDGE_AGENT_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"edge-agent model calibrate tiny-phi") as refusal:
        Decoder(built, manifest, slots=1, tokens=64, threads=1, kv_dtype=KvDtype.INT8)

    command = str(refusal.value).split("`")[1].split()
    assert main(command[1:]) == 0
    Decoder(built, manifest, slots=1, tokens=64, threads=1, kv_dtype=KvDtype.INT8)

    text = tmp_path / "text"
    text.write_bytes(b"\xff")
    assert main([*command[1:], "--text", str(text)]) == 1
    assert str(text) in capsys.readouterr().err

"""Packages: of a tiny model, all that is said of it; of the real one, what its weights became."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_agent.engine.kv_scales import read_kv_scales
from edge_agent.errors import ModelError
from edge_agent.importers import package as importer
from edge_agent.importers.calibration import TEXT
from edge_agent.importers.gguf_door import open_gguf
from edge_agent.messages import Sampling
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.manifest import Manifest, Quantization, read_manifest
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.scales import SCALES
from edge_agent.modelstore.store import ModelStore, check_files
from tests.importers.tiny_gguf import CONTEXT, TEMPLATE, TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path

NAME = "smollm2-135m-instruct"
LABEL = importer.Label(name="tiny", family="small", licence="none", origin="a test")


def packaged(
    directory: Path,
    asked: Precision | None = None,
    *,
    model: TinyModel | None = None,
    text: Path | None = TEXT,
    **changes: Any,
) -> Manifest:
    (model or TinyModel()).write(directory / "tiny.gguf")
    with open_gguf(directory / "tiny.gguf") as opened:
        label = replace(LABEL, **changes)
        path = directory / "package"
        importer.write(opened, label, asked or Precision(), path, text=text)
    return read_manifest(directory / "package")


def test_a_package_holds_what_the_file_and_the_label_say(tmp_path: Path) -> None:
    facts = packaged(tmp_path)

    assert (facts.name, facts.family, facts.licence) == ("tiny", "small", "none")
    assert (facts.source, facts.context) == ("a test", CONTEXT)
    assert (facts.shape.layers, facts.shape.vocab) == (2, len(vocabulary()))
    assert facts.graphs == {kv: f"decoder.{kv}.onnx" for kv in ("fp32", "fp16", "int8")}
    package = tmp_path / "package"
    assert (package / "chat_template.jinja").read_text() == TEMPLATE
    assert {path.name for path in package.iterdir()} == {*facts.files, "manifest.json"}
    assert facts.files["weights.bin"].bytes == (package / "weights.bin").stat().st_size
    Tokenizer.from_file(str(package / "tokenizer.json"))


@pytest.mark.parametrize("asked", [Precision(), Precision(bits=32)], ids=["carried", "floats"])
def test_scales_are_a_file_of_the_package(tmp_path: Path, asked: Precision) -> None:
    facts = packaged(tmp_path, asked)

    assert SCALES in facts.files
    assert (read_kv_scales(tmp_path / "package", facts.shape) > 0).all()
    check_files(tmp_path / "package", Progress(io.StringIO()))


def test_without_a_text_there_are_no_scales(tmp_path: Path) -> None:
    facts = packaged(tmp_path, text=None)

    assert SCALES not in facts.files
    assert not (tmp_path / "package" / SCALES).exists()


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        made.append(packaged(tmp_path / name).files)

    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("kinds", "asked", "expected"),
    [
        ({"token_embd": "Q8_0", "": "Q4_1"}, Precision(), (4, 32, 8, 32, "exact")),
        # Most linear weights are those of the feed-forward.
        ({"token_embd": "Q4_0", "ffn": "Q8_0", "": "Q4_0"}, Precision(), (8, 32, 4, 32, "exact")),
        ({"": "F16"}, Precision(bits=4, block=64, activations="int8"), (4, 64, 8, 64, "int8")),
        ({"": "F16"}, Precision(bits=32), (32, 0, 32, 0, "exact")),
    ],
)
def test_the_manifest_sums_up_how_weights_are_stored(
    tmp_path: Path, kinds: dict[str, str], asked: Precision, expected: tuple[Any, ...]
) -> None:
    facts = packaged(tmp_path, asked, model=TinyModel(kinds=kinds))

    bits, block, head_bits, head_block, activations = expected
    assert facts.quantization == Quantization(
        bits=bits,
        block=block,
        head_bits=head_bits,
        head_block=head_block,
        activations=activations,
    )


def test_a_head_of_its_own_is_what_the_manifest_tells_of(tmp_path: Path) -> None:
    head = np.ones((len(vocabulary()), 64), np.float32)
    kinds = {"token_embd": "Q8_0", "output.weight": "Q4_0", "": "Q4_1"}

    facts = packaged(tmp_path, model=TinyModel(kinds=kinds, more={"output.weight": head}))

    assert (facts.quantization.head_bits, facts.quantization.head_block) == (4, 32)


def test_stop_tokens_are_those_of_the_model_and_of_the_label(tmp_path: Path) -> None:
    facts = packaged(tmp_path, stop_tokens=("<|endoftext|>", "hello"))

    assert facts.stop_token_ids == (0, 2, vocabulary().index("hello"))


def test_a_stop_token_that_is_no_token_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"stop token '<\|end\|>' is not in the vocabulary"):
        packaged(tmp_path, stop_tokens=("<|end|>",))

    assert not (tmp_path / "package").exists()


@pytest.mark.parametrize("found", [(), (264,), (-1, 2)])
def test_a_model_that_cannot_stop_is_refused(tmp_path: Path, found: tuple[int, ...]) -> None:
    TinyModel().write(tmp_path / "tiny.gguf")

    with (
        open_gguf(tmp_path / "tiny.gguf") as model,
        pytest.raises(ModelError, match=r"stop tokens .*: none, or not of 264 tokens"),
    ):
        importer.write(
            replace(model, stop_token_ids=found), LABEL, Precision(), tmp_path / "package"
        )


def test_sampling_of_the_label_goes_before_that_of_the_model(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "tiny.gguf")
    label = replace(LABEL, sampling=Sampling(temperature=0.0, top_k=5))

    with open_gguf(tmp_path / "tiny.gguf") as model:
        recommended = replace(model, sampling=Sampling(temperature=0.6, top_p=0.9))
        importer.write(recommended, label, Precision(), tmp_path / "package")

    found = read_manifest(tmp_path / "package").sampling
    assert found == Sampling(temperature=0.0, top_k=5, top_p=0.9)


def test_a_manifest_is_plain_json(tmp_path: Path) -> None:
    packaged(tmp_path)

    text = (tmp_path / "package" / "manifest.json").read_bytes()

    assert msgspec.json.format(text) == text


@pytest.fixture
def package(model_home: Path) -> Path:
    return ModelStore(model_home).package(NAME)


@pytest.mark.real
def test_the_manifest_tells_what_the_weights_are(package: Path) -> None:
    manifest = read_manifest(package)

    assert manifest.context == 8192
    assert (manifest.shape.layers, manifest.shape.hidden, manifest.shape.vocab) == (30, 576, 49152)
    assert manifest.stop_token_ids == (0, 2)
    assert (manifest.sampling.temperature, manifest.sampling.top_p) == (0.2, 0.9)
    assert set(manifest.files) <= {path.name for path in package.iterdir()} - {"manifest.json"}


@pytest.mark.real
def test_its_blocks_are_those_of_the_file(package: Path) -> None:
    # Of the arrays that were proven equal to the 4-bit integers and scales of the GGUF.
    assert read_manifest(package).files["weights.bin"].sha256 == (
        "4ea9765b8a851fb0e4a5e3b8080521e64c43d1c4b047e5da02f7dc18979c784f"
    )


@pytest.mark.real
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # From the model's published tokenizer: digits apart, leading spaces kept, bytes of emoji.
        ("Hello world", [19556, 905]),
        ("12 + 30", [33, 34, 1232, 216, 35, 32]),
    ],
)
def test_the_tokenizer_cuts_text_as_the_model_was_trained(
    package: Path, text: str, ids: list[int]
) -> None:
    assert Tokenizer.from_file(str(package / "tokenizer.json")).encode(text).ids == ids


@pytest.mark.real
@pytest.mark.parametrize("text", ["naïve café 😀👍🏽", "tabs\t\tand  spaces \n\n x", "1234567", ""])
def test_text_survives_the_tokenizer(package: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))

    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_longest_token_is_told(tmp_path: Path) -> None:
    # Of those that text consists of; control tokens are longer.
    assert packaged(tmp_path).longest_token_bytes == len("hello")

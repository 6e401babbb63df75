"""The real package: what the import made of real weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer

from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.store import ModelStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

NAME = "smollm2-135m-instruct"


@pytest.fixture
def package(model_home: Path) -> Path:
    return ModelStore(model_home).package(NAME)


def test_the_manifest_tells_what_the_weights_are(package: Path) -> None:
    manifest = read_manifest(package)

    assert manifest.context == 8192
    assert (manifest.shape.layers, manifest.shape.hidden, manifest.shape.vocab) == (30, 576, 49152)
    assert manifest.stop_token_ids == (0, 2)
    assert (manifest.sampling.temperature, manifest.sampling.top_p) == (0.2, 0.9)
    assert set(manifest.files) == {path.name for path in package.iterdir()} - {"manifest.json"}


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


@pytest.mark.parametrize("text", ["naïve café 😀👍🏽", "tabs\t\tand  spaces \n\n x", "1234567", ""])
def test_text_survives_the_tokenizer(package: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))

    assert tokenizer.decode(tokenizer.encode(text).ids) == text

"""The decoder graph against the same model in plain numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.importers import package as importer
from edge_agent.importers.compiler import write_weights
from edge_agent.importers.gguf import GgufFile
from edge_agent.importers.graph import KvDtype, Plan, decoder
from edge_agent.importers.llama import read_layout
from edge_agent.modelstore.manifest import Quantization, read_manifest
from tests.importers import float_model
from tests.importers.packed_session import PackedSession
from tests.importers.tiny_card import tiny_card
from tests.importers.tiny_gguf import HIDDEN, TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Logits of this model have a spread of 1.6; int8 activations in one term are off by 0.03 to 0.3.
TOLERANCE = 0.01

PROMPT = [5, 250, 17, 99, 3, 180, 42, 42, 7, 201, 64]


class Imported:
    """A package of a tiny model, and what its logits should be."""

    def __init__(self, directory: Path, model: TinyModel) -> None:
        self.package = directory / "package"
        self.weights = model.write(directory / "tiny.gguf")
        importer.import_gguf(directory / "tiny.gguf", tiny_card(), self.package)

    def session(self, *, slots: int = 1) -> PackedSession:
        facts = read_manifest(self.package)
        return PackedSession(
            self.package / facts.graphs["fp32"], facts.shape, facts.rope, slots=slots
        )

    def expected(self, ids: list[int]) -> NDArray[np.float32]:
        facts = read_manifest(self.package)
        return float_model.logits(self.weights, facts.shape, facts.rope, ids)


@pytest.fixture
def tiny(tmp_path: Path) -> Imported:
    return Imported(tmp_path, TinyModel())


@pytest.mark.parametrize(
    "kinds",
    [
        {"token_embd": "Q8_0", "": "Q4_1"},
        {"": "Q8_0"},
        # q, k and v are one array of the package, whatever they were.
        {"token_embd": "Q8_0", "attn_v": "Q8_0", "ffn_up": "Q8_0", "": "Q4_1"},
    ],
    ids=["4-bit", "8-bit", "mixed"],
)
def test_quantized_weights_give_the_logits_of_the_float_model(
    tmp_path: Path, kinds: dict[str, str]
) -> None:
    tiny = Imported(tmp_path, TinyModel(kinds=kinds))

    logits = tiny.session().step({0: PROMPT})[0]

    np.testing.assert_allclose(logits, tiny.expected(PROMPT), atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q4_1"])
def test_weights_that_must_be_rounded_stay_near(tmp_path: Path, kind: str) -> None:
    tiny = Imported(tmp_path, TinyModel(kinds={"": kind}))

    logits = tiny.session().step({0: PROMPT})[0]

    error = logits - tiny.expected(PROMPT)
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.std(tiny.expected(PROMPT))


def test_a_head_of_its_own_is_used(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    head = rng.normal(0, 0.2, (len(vocabulary()), HIDDEN)).astype(np.float32)
    kinds = {"token_embd": "Q8_0", "output.weight": "Q8_0", "": "Q4_1"}
    tiny = Imported(tmp_path, TinyModel(kinds=kinds, more={"output.weight": head}))

    logits = tiny.session().step({0: PROMPT})[0]

    np.testing.assert_allclose(logits, tiny.expected(PROMPT), atol=TOLERANCE)


def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(tiny: Imported) -> None:
    session = tiny.session()

    chunks = [session.step({0: PROMPT[:4]})[0], session.step({0: PROMPT[4:]})[0]]

    np.testing.assert_allclose(np.concatenate(chunks), tiny.expected(PROMPT), atol=TOLERANCE)


def test_rows_of_different_lengths_share_a_step(tiny: Imported) -> None:
    session = tiny.session(slots=3)
    session.step({0: PROMPT[:6], 2: PROMPT[:2]})

    # A decode row, an idle row (which has no cache yet) and a chunk of a prompt.
    logits = session.step({0: PROMPT[6:7], 2: PROMPT[2:8]})

    np.testing.assert_allclose(logits[0], tiny.expected(PROMPT)[6:7], atol=TOLERANCE)
    np.testing.assert_allclose(logits[2], tiny.expected(PROMPT)[2:8], atol=TOLERANCE)


def test_a_smaller_length_rewinds(tiny: Imported) -> None:
    session = tiny.session(slots=2)
    session.step({0: PROMPT[:3], 1: PROMPT})
    other = [9, 8, 7]

    session.lengths[1] = 5
    logits = session.step({1: other})[1]

    np.testing.assert_allclose(logits, tiny.expected(PROMPT[:5] + other)[5:], atol=TOLERANCE)


def test_a_half_precision_cache_stays_near(tmp_path: Path) -> None:
    weights = TinyModel().write(tmp_path / "tiny.gguf")
    with GgufFile(tmp_path / "tiny.gguf") as gguf:
        layout = read_layout(gguf)
        regions = write_weights(gguf, layout, tmp_path / "weights.bin")
    quantization = Quantization(bits=4, block=32, head_bits=8, head_block=32)
    plan = Plan(
        shape=layout.shape, rope=layout.rope, quantization=quantization, kv_dtype=KvDtype.FP16
    )
    (tmp_path / "decoder.onnx").write_bytes(decoder(plan, regions).SerializeToString())
    session = PackedSession(tmp_path / "decoder.onnx", layout.shape, layout.rope, dtype=np.float16)

    chunks = [session.step({0: PROMPT[:4]})[0], session.step({0: PROMPT[4:]})[0]]

    expected = float_model.logits(weights, layout.shape, layout.rope, PROMPT)
    np.testing.assert_allclose(np.concatenate(chunks), expected, atol=0.05)

"""What the import makes of a whole file, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from tokenizers import Tokenizer

from edge_agent.errors import ModelError
from edge_agent.importers.package import import_gguf
from edge_agent.importers.weights import ALIGNMENT_BYTES, WeightsFile
from edge_agent.modelstore.manifest import read_manifest
from tests.importers.tiny_card import tiny_card
from tests.importers.tiny_gguf import CONTEXT, TEMPLATE, TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def imported(directory: Path, model: TinyModel) -> Path:
    model.write(directory / "tiny.gguf")
    import_gguf(directory / "tiny.gguf", tiny_card(), directory / "package")
    return directory / "package"


def test_a_package_holds_what_the_file_and_the_card_say(tmp_path: Path) -> None:
    package = imported(tmp_path, TinyModel())

    facts = read_manifest(package)
    assert (facts.name, facts.family, facts.context) == ("tiny", "tiny", CONTEXT)
    assert (facts.shape.layers, facts.shape.vocab) == (2, len(vocabulary()))
    assert (facts.quantization.bits, facts.quantization.head_bits) == (4, 8)
    assert facts.stop_token_ids == (0, 2)
    assert facts.sampling == tiny_card().sampling
    assert (package / "chat_template.jinja").read_text() == TEMPLATE
    assert {path.name for path in package.iterdir()} == {*facts.files, "manifest.json"}


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    packages = [read_manifest(imported(tmp_path / name, TinyModel())) for name in ("one", "two")]

    assert packages[0].files == packages[1].files


def test_the_tokenizer_has_the_vocabulary_and_merges_of_the_file(tmp_path: Path) -> None:
    package = imported(tmp_path, TinyModel())
    tokenizer = Tokenizer.from_file(str(package / "tokenizer.json"))

    encoded = tokenizer.encode("hello wé12<|im_end|>")

    assert encoded.tokens == ["hello", "Ġw", "Ã", "©", "1", "2", "<|im_end|>"]
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == "hello wé12<|im_end|>"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"llama.embedding_length": 128, "llama.attention.head_count": 8},
            "qkv has 128 rows, expected 192",
        ),
        ({"llama.embedding_length": 1 << 31}, "impossible dimensions"),
        ({"llama.attention.head_count": 0}, "impossible dimensions"),
        ({"llama.attention.head_count_kv": 3}, "impossible dimensions"),
        ({"llama.block_count": 3}, "'blk.2.attn_q.weight' is missing"),
        ({"llama.block_count": 1}, "would ignore: blk.1"),
        ({"llama.block_count": 1 << 30}, "impossible dimensions"),
        ({"llama.feed_forward_length": 95}, "gate_up has 192 rows, expected 190"),
        ({"llama.rope.dimension_count": 8}, "8 rotated dims of 16"),
        ({"llama.rope.scaling.type": "yarn"}, "scaling"),
        ({"llama.context_length": "long"}, "context_length"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer 'llama'"),
        ({"tokenizer.ggml.pre": "other"}, "pre-tokenizer 'other'"),
        ({"tokenizer.ggml.token_type": [1]}, "264 tokens, 264 distinct, 1 token types"),
        ({"tokenizer.ggml.tokens": ["a"] * 264}, "264 tokens, 1 distinct"),
        ({"tokenizer.ggml.tokens": ["a"]}, "264 rows, the vocabulary 1 tokens"),
        ({"tokenizer.ggml.merges": ["h q"]}, "merge 'h q' does not make a token"),
        ({"tokenizer.ggml.merges": ["hq"]}, "merge 'hq'"),
        ({"tokenizer.ggml.merges": ["hel lo"]}, "the tokenizer does not load"),
        ({"tokenizer.ggml.eos_token_id": 1 << 20}, "end token"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ModelError) as caught:
        imported(tmp_path, TinyModel(metadata=changes))

    assert problem in str(caught.value)


def test_another_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    TinyModel().write(path)
    path.write_bytes(path.read_bytes().replace(b"\5\0\0\0\0\0\0\0llama", b"\5\0\0\0\0\0\0\0gemma"))

    with pytest.raises(ModelError, match="architecture 'gemma'"):
        import_gguf(path, tiny_card(), tmp_path / "package")


def test_a_vocabulary_of_another_size_than_the_embedding_is_refused(tmp_path: Path) -> None:
    more = {"token_embd.weight": np.zeros((300, 64), np.float32)}

    with pytest.raises(ModelError, match=r"300 rows.* 264 tokens"):
        imported(tmp_path, TinyModel(more=more))


def zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"output_norm.weight": zeros(32)}, "output_norm.weight is 1 x 32, expected 1 x 64"),
        (
            {"blk.0.attn_q.weight": zeros(32, 64), "blk.0.attn_k.weight": zeros(64, 64)},
            "blk.0.attn_q.weight has 32 rows, expected 64",
        ),
    ],
)
def test_a_tensor_of_another_shape_is_named(
    tmp_path: Path, more: dict[str, NDArray[np.float32]], problem: str
) -> None:
    with pytest.raises(ModelError) as caught:
        imported(tmp_path, TinyModel(more=more))

    assert problem in str(caught.value)


def test_rows_that_are_no_whole_blocks_are_refused(tmp_path: Path) -> None:
    wide = {
        f"blk.{layer}.ffn_{side}.weight": zeros(90, 64)
        for layer in (0, 1)
        for side in ("gate", "up")
    }
    down = {f"blk.{layer}.ffn_down.weight": zeros(64, 90) for layer in (0, 1)}
    odd = TinyModel(
        kinds={"": "F16"}, metadata={"llama.feed_forward_length": 90}, more={**wide, **down}
    )

    with pytest.raises(ModelError, match=r"layers\.0\.down: 90 columns"):
        imported(tmp_path, odd)


@pytest.mark.parametrize("omitted", ["output_norm.weight", "blk.1.ffn_down.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, omitted: str) -> None:
    with pytest.raises(ModelError, match=omitted):
        imported(tmp_path, TinyModel(omit=(omitted,)))


def test_a_tensor_that_would_be_ignored_is_named(tmp_path: Path) -> None:
    more: dict[str, NDArray[np.float32]] = {"blk.0.attn_q.bias": np.zeros(64, np.float32)}

    with pytest.raises(ModelError, match=r"would ignore: blk\.0\.attn_q\.bias"):
        imported(tmp_path, TinyModel(more=more))


def test_weights_of_a_type_not_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Q5_0 are not read"):
        imported(tmp_path, TinyModel(kinds={"attn_output": "Q5_0", "": "Q8_0"}))


def test_as_a_process_it_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    (tmp_path / "card.yaml").write_bytes(msgspec.yaml.encode(tiny_card()))
    names = ("card.yaml", "bad.gguf", "package")
    command = [sys.executable, "-m", "edge_agent.importers", *(str(tmp_path / n) for n in names)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr == "bad.gguf: cut short: byte 4 and 4 more of 4\n"


def test_regions_lie_on_pages_and_hold_what_was_written_in_any_order(tmp_path: Path) -> None:
    with WeightsFile(tmp_path / "weights.bin") as out:
        out.reserve("small", np.float32, (3,))
        out.reserve("large", np.uint8, (4, 2))
        out.write("large", 2, np.full((2, 2), 7, np.uint8))
        out.write("small", 0, np.arange(3, dtype=np.float32))
        out.write("large", 0, np.full((2, 2), 9, np.uint8))
        out.flush()

    data = (tmp_path / "weights.bin").read_bytes()
    assert np.frombuffer(data, np.float32, 3).tolist() == [0, 1, 2]
    assert data[ALIGNMENT_BYTES:] == bytes([9] * 4 + [7] * 4)


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        (1, np.zeros((2, 2), np.uint8)),
        (0, np.zeros((1, 3), np.uint8)),
        (0, np.zeros((1, 2), np.int8)),
    ],
)
def test_rows_that_are_not_part_of_a_region_are_a_bug(
    tmp_path: Path, row: int, rows: NDArray[Any]
) -> None:
    with WeightsFile(tmp_path / "weights.bin") as out:
        out.reserve("array", np.uint8, (2, 2))

        with pytest.raises(ValueError, match="array"):
            out.write("array", row, rows)

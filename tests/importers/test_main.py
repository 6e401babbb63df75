"""The import as a process of its own: what its words mean, and what it says when it fails."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.importers.__main__ import main
from edge_agent.messages import Sampling
from edge_agent.modelstore.card import Card, Precision
from edge_agent.modelstore.manifest import Manifest, read_manifest
from edge_agent.modelstore.scales import SCALES
from tests.importers import tiny_gguf
from tests.importers.tiny_card import tiny_card
from tests.importers.tiny_gguf import TinyModel, vocabulary

if TYPE_CHECKING:
    from pathlib import Path


def imported(directory: Path, *options: str, card: Card | None = None) -> Manifest:
    TinyModel(kinds={"": "F32"}).write(directory / "tiny.gguf")
    argv = [str(directory / "tiny.gguf"), str(directory / "package"), "--name", "tiny", *options]
    if card is not None:
        (directory / "card.yaml").write_bytes(msgspec.yaml.encode(card))
        argv += ["--card", str(directory / "card.yaml")]
    assert main(argv) == 0
    return read_manifest(directory / "package")


def test_a_card_says_what_the_options_do_not(tmp_path: Path) -> None:
    card = msgspec.structs.replace(
        tiny_card(),
        precision=Precision(bits=8, block=64, activations="int8"),
        stop_tokens=("hello",),
        sampling=Sampling(top_k=3),
    )

    facts = imported(tmp_path, "--block", "32", "--origin", "elsewhere", card=card)

    assert (facts.family, facts.licence, facts.source) == ("tiny", "none", "elsewhere")
    assert (facts.quantization.bits, facts.quantization.block) == (8, 32)
    assert facts.quantization.activations == "int8"
    assert vocabulary().index("hello") in facts.stop_token_ids
    assert facts.sampling == Sampling(top_k=3)


def test_without_a_card_the_name_and_the_options_must_do(tmp_path: Path) -> None:
    facts = imported(tmp_path, "--licence", "mine", "--bits", "4", "--head-bits", "4")

    assert (facts.name, facts.family, facts.licence) == ("tiny", "tiny", "mine")
    assert facts.source == "tiny.gguf"
    assert (facts.quantization.bits, facts.quantization.head_bits) == (4, 4)


def test_a_licence_that_nobody_names_is_unknown(tmp_path: Path) -> None:
    assert imported(tmp_path).licence == "unknown"


def test_weights_are_rounded_for_a_text(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello world, " * 300)
    made = {}
    for name, words in {
        "shipped": [],
        "own": ["--importance", str(tmp_path / "text")],
        "none": ["--importance", "none"],
    }.items():
        (tmp_path / name).mkdir()
        made[name] = imported(tmp_path / name, *words).files["weights.bin"].sha256

    assert len(set(made.values())) == 3


def test_scales_of_a_small_cache_come_with_a_text(tmp_path: Path) -> None:
    for name, words in {"floats": [], "none": ["--importance", "none"]}.items():
        (tmp_path / name).mkdir()
        files = imported(tmp_path / name, "--bits", "32", *words).files
        assert (SCALES in files) == (name != "none")


def test_a_template_that_refuses_users_costs_the_scales_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiny_gguf, "TEMPLATE", "{{ raise_exception('only systems speak') }}")

    facts = imported(tmp_path, "--bits", "4")

    (line,) = capsys.readouterr().out.splitlines()
    assert "only systems speak" in line
    assert line.endswith("there are no scales for an int8 KV cache")
    assert SCALES not in facts.files
    (tmp_path / "none").mkdir()
    plain = imported(tmp_path / "none", "--bits", "4", "--importance", "none")
    assert facts.files == plain.files
    assert capsys.readouterr().out == ""


def test_a_package_that_is_there_is_not_touched(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "package").mkdir()
    TinyModel().write(tmp_path / "tiny.gguf")

    status = main([str(tmp_path / "tiny.gguf"), str(tmp_path / "package"), "--name", "tiny"])

    assert status == 1
    assert "File exists" in capsys.readouterr().err


def test_as_a_process_it_says_what_is_wrong_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    words = [str(tmp_path / "bad.gguf"), str(tmp_path / "package"), "--name", "bad"]

    done = subprocess.run(
        [sys.executable, "-m", "edge_agent.importers", *words],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == "bad.gguf: cut short: byte 4 and 4 more of 4\n"


@pytest.mark.parametrize("option", [["--bits", "5"], ["--block", "48"], ["--head-bits", "32"]])
def test_a_precision_that_is_not_there_is_a_wrong_word(option: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["source", "package", "--name", "tiny", *option])

    assert caught.value.code == 2

"""`edge-agent model import` and `export`, typed as a user types them; pulls of variants too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from edge_agent.modelstore.card import Card, Precision, Variant
from edge_agent.modelstore.local import about_bytes
from edge_agent.modelstore.sources import HfSource
from tests.importers.tiny_gguf import TinyModel
from tests.importers.tiny_hf import TinyHf
from tests.modelstore.hub import COMMIT, Hub, running

if TYPE_CHECKING:
    from pathlib import Path


class Gateway:
    """A machine of its own, as far as models go."""

    def __init__(self, home: Path, **environ: str) -> None:
        self.home = home
        self._environ = {**os.environ, "EDGE_AGENT_HOME": str(home), "NO_PROXY": "*", **environ}

    def run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edge_agent", "model", *map(str, argv)]
        return subprocess.run(
            command,
            env=self._environ,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            check=False,
        )

    def said(self, *argv: str | Path) -> str:
        done = self.run(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def complaint(self, *argv: str | Path) -> str:
        done = self.run(*argv)
        assert done.returncode == 1
        return done.stderr.splitlines()[-1]

    def facts(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.said("show", name))
        return found

    def write_card(self, card: Card | Variant) -> None:
        (self.home / "cards").mkdir(parents=True, exist_ok=True)
        (self.home / "cards" / f"{card.name}.yaml").write_bytes(msgspec.yaml.encode(card))


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    return Gateway(tmp_path / "home")


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    TinyModel().write(tmp_path / "tiny.gguf")
    return tmp_path / "tiny.gguf"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    TinyHf(family="llama").write(directory)
    return directory


def test_a_gguf_is_imported_carried_over_and_left_where_it_is(gateway: Gateway, gguf: Path) -> None:
    gateway.said("import", gguf, "--name", "mine", "--licence", "mit")

    facts = gateway.facts("mine")
    assert (facts["name"], facts["licence"], facts["source"]) == ("mine", "mit", f"file:{gguf}")
    assert facts["quantization"]["bits"] == 4
    assert "every file is what it should be" in gateway.said("verify", "mine")
    assert gguf.exists()


def test_options_say_how_weights_are_stored(gateway: Gateway, checkpoint: Path) -> None:
    bits = ["--bits", "8", "--block", "64", "--head-bits", "4", "--activations", "int8"]
    gateway.said("import", checkpoint.name, "--name", "mine", *bits)

    assert gateway.facts("mine")["quantization"] == {
        "bits": 8,
        "block": 64,
        "head_bits": 4,
        "head_block": 64,
        "activations": "int8",
    }


def test_what_is_not_said_a_card_of_that_name_says(gateway: Gateway, checkpoint: Path) -> None:
    source = HfSource(repo="tiny/model", files=("config.json",), bytes=1)
    card = Card(
        name="known",
        title="Known",
        family="known",
        licence="apache-2.0",
        source=source,
        package_bytes=1,
        precision=Precision(bits=8),
    )
    gateway.write_card(card)
    gateway.said("import", checkpoint, "--name", "known", "--block", "128")

    facts = gateway.facts("known")
    assert (facts["family"], facts["licence"]) == ("known", "apache-2.0")
    assert (facts["quantization"]["bits"], facts["quantization"]["block"]) == (8, 128)


def test_a_package_travels_as_one_file(gateway: Gateway, gguf: Path, tmp_path: Path) -> None:
    gateway.said("import", gguf, "--name", "mine")
    gateway.said("export", "mine", "mine.tar")
    offline = Gateway(tmp_path / "offline" / "home")
    offline.home.parent.mkdir()

    lines = offline.said("import", tmp_path / "mine.tar", "--json").splitlines()

    assert {json.loads(line)["stage"] for line in lines} == {"unpack", "verify"}
    assert offline.facts("mine") == gateway.facts("mine")
    offline.said("import", tmp_path / "mine.tar", "--name", "twin")
    offline.said("verify", "twin")
    assert offline.said("list").count(" here") == 2


def test_a_damaged_tar_leaves_nothing(gateway: Gateway, gguf: Path, tmp_path: Path) -> None:
    gateway.said("import", gguf, "--name", "mine")
    gateway.said("export", "mine", "mine.tar")
    tar = tmp_path / "mine.tar"
    data = bytearray(tar.read_bytes())
    data[len(data) // 2] ^= 1
    tar.write_bytes(data)

    assert "weights.bin is damaged" in gateway.complaint("import", tar, "--name", "again")
    assert "again" not in gateway.said("list")
    assert not (gateway.home / "staging" / "again").exists()


def test_why_nothing_can_be_imported_is_said(gateway: Gateway, gguf: Path, tmp_path: Path) -> None:
    gateway.write_card(Variant(name="terse", title="Terse", variant_of="mine"))
    (tmp_path / "empty").mkdir()

    assert "needs a name: --name NAME" in gateway.complaint("import", gguf)
    assert "'Mine' is no name" in gateway.complaint("import", gguf, "--name", "Mine")
    assert "terse is a variant of mine" in gateway.complaint("import", gguf, "--name", "terse")
    assert "none: No such file" in gateway.complaint("import", "none", "--name", "mine")
    assert "empty" in gateway.complaint("import", "empty", "--name", "mine")
    gateway.said("import", gguf, "--name", "mine")
    assert "mine is here already" in gateway.complaint("import", gguf, "--name", "mine")
    assert "'huge' is not here" in gateway.complaint("export", "huge", "x.tar")
    assert "cannot write" in gateway.complaint("export", "mine", "no/where.tar")


def test_pulling_a_variant_brings_its_base(tmp_path: Path, checkpoint: Path) -> None:
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    with running(Hub(files=files)) as hub:
        gateway = Gateway(tmp_path / "home", HF_ENDPOINT=hub.url)
        source = HfSource(repo="tiny/model", files=("*.json", "model.safetensors"), bytes=900_000)
        card = Card(
            name="tiny",
            title="Tiny",
            family="tiny",
            licence="mit",
            source=source,
            package_bytes=500_000,
        )
        gateway.write_card(card)
        gateway.write_card(Variant(name="terse", title="Terse", variant_of="tiny"))
        assert "variant of tiny, which can be pulled" in gateway.said("list")

        done = gateway.run("pull", "terse", "--json")

    assert "licence mit, from hf:tiny/model@main" in done.stderr.splitlines()[0]
    assert json.loads(done.stdout.splitlines()[0])["licence"] == "mit"
    assert gateway.facts("tiny")["source"] == f"hf:tiny/model@{COMMIT}"
    assert "variant of tiny, which is here" in gateway.said("list")
    assert gateway.facts("terse")["card"] == str(gateway.home / "cards" / "terse.yaml")


def test_a_card_that_cannot_be_read_is_told_by_the_list(gateway: Gateway) -> None:
    (gateway.home / "cards").mkdir(parents=True)
    (gateway.home / "cards" / "odd.yaml").write_text("name: odd")

    done = gateway.run("list")

    assert done.returncode == 0
    assert "smollm2-135m-instruct" in done.stdout
    assert "card not read" in done.stderr
    assert "odd.yaml" in done.stderr


def test_the_size_of_a_package_is_guessed_from_its_source(tmp_path: Path, gguf: Path) -> None:
    (tmp_path / "bf16").mkdir()
    (tmp_path / "bf16" / "model.safetensors").write_bytes(bytes(2_000_000))
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx.data").write_bytes(bytes(1_000_000))

    assert about_bytes(tmp_path / "bf16", Precision(bits=4, block=32)) == 781_250
    assert about_bytes(tmp_path / "bf16", Precision(bits=32)) == 5_156_250
    assert about_bytes(tmp_path / "onnx", Precision()) == 1_250_000
    assert about_bytes(gguf, Precision()) == int(gguf.stat().st_size * 1.25)

"""Float packages of the checkpoints of this directory, through the Hugging Face door, loaded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from edge_agent.engine.decoder import Decoder
from edge_agent.importers import package
from edge_agent.importers.hf import open_hf
from edge_agent.modelstore.card import Precision
from edge_agent.modelstore.manifest import Manifest, read_manifest

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.engine.kv_cache import KvDtype
    from tests.real.parity.checkpoints import Checkpoint

CAPACITY = 192


def write_package(
    checkpoint: Checkpoint, directory: Path, *, text: Path | None = None
) -> tuple[Path, Manifest]:
    """Write `checkpoint` as others publish it, import its floats; return the package."""
    source, built = directory / "source", directory / "package"
    source.mkdir()
    (source / "config.json").write_text(json.dumps(checkpoint.config))
    (source / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    save_file(checkpoint.tensors(), source / "model.safetensors")
    _tokenizer().save(str(source / "tokenizer.json"))
    label = package.Label(name="parity", family="test", licence="none", origin="a random stream")
    with open_hf(source) as model:
        package.write(model, label, Precision(bits=32), built, text=text)
    return built, read_manifest(built)


def load(built: Path, kv_dtype: KvDtype, *, slots: int) -> Decoder:
    """Load a package of `write_package`."""
    return Decoder(
        built, read_manifest(built), slots=slots, tokens=CAPACITY, threads=1, kv_dtype=kv_dtype
    )


def _tokenizer() -> Tokenizer:
    """Return byte-level BPE without merges: one token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer

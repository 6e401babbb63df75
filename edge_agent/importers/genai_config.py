"""What the `genai_config.json` of an onnxruntime-genai package says of its model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.directory import naming
from edge_agent.importers.hf_config import Family
from edge_agent.importers.hf_rope import MAX_CONTEXT
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from edge_agent.importers.directory import Directory
    from edge_agent.modelstore.manifest import Shape

FILE_NAME = "genai_config.json"
# Real ones take two kilobytes.
MAX_BYTES = 1 << 20

_Count = Annotated[int, Meta(ge=1, le=1 << 24)]


class Inputs(Struct, frozen=True, kw_only=True):
    """What the graph calls its inputs."""

    input_ids: str = "input_ids"
    attention_mask: str = "attention_mask"


class Outputs(Struct, frozen=True, kw_only=True):
    """What the graph calls its output."""

    logits: str = "logits"


class Decoder(Struct, frozen=True, kw_only=True):
    """The graph's file, and its dimensions."""

    filename: str
    head_size: _Count
    hidden_size: _Count
    num_attention_heads: _Count
    num_hidden_layers: _Count
    num_key_value_heads: _Count
    inputs: Inputs = Inputs()
    outputs: Outputs = Outputs()
    pipeline: object = None
    """Present where the model is cut into several graphs."""


class Description(Struct, frozen=True, kw_only=True):
    """The model."""

    type: str
    context_length: Annotated[int, Meta(ge=1, le=MAX_CONTEXT)]
    vocab_size: _Count
    eos_token_id: int | tuple[int, ...]
    decoder: Decoder

    @property
    def family(self) -> Family:
        """Whose chat format the model speaks, as far as that adds end tokens of its own."""
        return Family.PHI3 if self.type.startswith("phi3") else Family.LLAMA


class Search(Struct, frozen=True, kw_only=True):
    """How the package samples."""

    do_sample: bool = False
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None

    @property
    def sampling(self) -> Sampling:
        """What the package recommends; greedy is what builders write without being asked."""
        if not self.do_sample:
            return Sampling()
        return Sampling(temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)


class GenaiConfig(Struct, frozen=True, kw_only=True):
    """The whole file, as far as it is read."""

    model: Description
    search: Search = Search()


def read_genai_config(directory: Directory) -> GenaiConfig:
    """Read the `genai_config.json` of `directory`.

    Raises:
        ModelError: missing, too large, not JSON, or a field is missing, mistyped or out of range.
    """
    fields = directory.read_json(FILE_NAME, limit_bytes=MAX_BYTES)
    with naming(FILE_NAME):
        try:
            config = msgspec.convert(fields, GenaiConfig)
        except msgspec.ValidationError as exc:
            raise ModelError(str(exc)) from exc
        if config.model.decoder.pipeline is not None:
            msg = "the decoder is cut into several graphs (pipeline), which is not supported"
            raise ModelError(msg)
    return config


def check_shape(config: GenaiConfig, shape: Shape) -> None:
    """Check that the file states the dimensions that the graph has.

    Raises:
        ModelError: it does not.
    """
    decoder = config.model.decoder
    pairs = {
        "head_size": (decoder.head_size, shape.head_dim),
        "hidden_size": (decoder.hidden_size, shape.hidden),
        "num_attention_heads": (decoder.num_attention_heads, shape.heads),
        "num_hidden_layers": (decoder.num_hidden_layers, shape.layers),
        "num_key_value_heads": (decoder.num_key_value_heads, shape.kv_heads),
        "vocab_size": (config.model.vocab_size, shape.vocab),
    }
    for name, (stated, found) in pairs.items():
        if stated != found:
            msg = f"{FILE_NAME}: {name} is {stated}, in {decoder.filename} it is {found}"
            raise ModelError(msg)

"""How a Hugging Face model is talked to: chat template, end of an answer, recommended sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from edge_agent.errors import ModelError
from edge_agent.importers.chat_template import with_tokens
from edge_agent.importers.directory import naming
from edge_agent.importers.hf_config import Family, token_ids
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.importers.directory import Directory
    from edge_agent.importers.hf_config import HfConfig

S = TypeVar("S", bound=Struct)

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
GENERATION_CONFIG = "generation_config.json"
# The longest public templates take about 30 kB; compiling one takes time for every byte.
MAX_TEMPLATE_BYTES = 256 << 10
# A few kilobytes, or some hundred where a configuration lists all added tokens.
MAX_JSON_BYTES = 4 << 20

# Phi-3 and Phi-4 end an answer with one of two tokens. Should a model run on, the next speaker's
# token ends it too: no answer holds one.
_PHI3_STOP_TOKENS = ("<|end|>", "<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>")


class _Token(Struct, frozen=True):
    """A special token in its long form."""

    content: str


class _NamedTemplate(Struct, frozen=True):
    """One of several templates of a model."""

    name: str
    template: str


class _Words(Struct, frozen=True):
    """What we read of `tokenizer_config.json` and of `special_tokens_map.json`."""

    bos_token: str | _Token | None = None
    eos_token: str | _Token | None = None
    chat_template: str | tuple[_NamedTemplate, ...] | None = None


class _Generation(Struct, frozen=True):
    """What we read of `generation_config.json`."""

    eos_token_id: int | tuple[int, ...] | None = None
    do_sample: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=1 << 20)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None


class HfChat:
    """The files of a directory that say how to talk to its model.

    Raises:
        ModelError: one of them is too large, no JSON, or a field is mistyped or out of range.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._words = _read(directory, TOKENIZER_CONFIG, _Words)
        self._special = _read(directory, SPECIAL_TOKENS, _Words)
        self._generation = _read(directory, GENERATION_CONFIG, _Generation)

    def template(self) -> str:
        """Return the chat template, which no longer asks for tokens that only these files name.

        Raises:
            ModelError: there is none, or it is too large.
        """
        source = self._template_file() or _default(self._words.chat_template)
        if not source:
            msg = f"no chat template, neither {TEMPLATE_FILE} nor one in {TOKENIZER_CONFIG}"
            raise ModelError(msg)
        if (size := len(source.encode(errors="replace"))) > MAX_TEMPLATE_BYTES:
            msg = f"a chat template of {size} bytes, the limit is {MAX_TEMPLATE_BYTES}"
            raise ModelError(msg)
        tokens = {"bos_token": self._bos(), "eos_token": self._eos()}
        return with_tokens(source, {name: text for name, text in tokens.items() if text})

    def stop_token_ids(self, config: HfConfig, tokens: Mapping[str, int]) -> tuple[int, ...]:
        """Return the ids that end an answer: all that any of the files names.

        `config.json` alone is not enough: that of Phi-4-mini names one of two. `tokens` is the
        vocabulary with its ids.

        Raises:
            ModelError: there are none, or one is not below the size of the vocabulary.
        """
        words = _PHI3_STOP_TOKENS if config.family is Family.PHI3 else ()
        ids = {
            *config.end_token_ids,
            *token_ids(self._generation.eos_token_id),
            *(tokens[word] for word in (*words, self._eos()) if word in tokens),
        }
        if not ids:
            msg = "no token ends an answer: eos_token_id is missing"
            raise ModelError(msg)
        if strange := [number for number in ids if not 0 <= number < config.shape.vocab]:
            msg = f"end token {strange[0]} is not in the vocabulary of {config.shape.vocab}"
            raise ModelError(msg)
        return tuple(sorted(ids))

    def sampling(self) -> Sampling:
        """Return what the model's makers recommend, as far as they recommend to sample."""
        asked = self._generation
        if not asked.do_sample:
            return Sampling(repetition_penalty=asked.repetition_penalty)
        return Sampling(
            temperature=asked.temperature,
            top_k=asked.top_k,
            top_p=asked.top_p,
            min_p=asked.min_p,
            repetition_penalty=asked.repetition_penalty,
        )

    def _template_file(self) -> str | None:
        if not self._directory.has(TEMPLATE_FILE):
            return None
        try:
            content = self._directory.read(TEMPLATE_FILE, limit_bytes=MAX_TEMPLATE_BYTES)
            return content.decode("utf-8")
        except UnicodeDecodeError as exc:
            msg = f"{TEMPLATE_FILE}: {exc}"
            raise ModelError(msg) from exc

    def _bos(self) -> str:
        return _text(self._words.bos_token or self._special.bos_token)

    def _eos(self) -> str:
        return _text(self._words.eos_token or self._special.eos_token)


def _read(directory: Directory, name: str, kind: type[S]) -> S:
    """Return what the file `name` says; a file that is not there says nothing."""
    fields: dict[str, Any] = {}
    if directory.has(name):
        fields = directory.read_json(name, limit_bytes=MAX_JSON_BYTES)
    with naming(name):
        try:
            return msgspec.convert(fields, kind)
        except msgspec.ValidationError as exc:
            raise ModelError(str(exc)) from exc


def _default(stated: str | tuple[_NamedTemplate, ...] | None) -> str | None:
    """Return the template for plain conversations among those stated."""
    if stated is None or isinstance(stated, str):
        return stated
    return next((named.template for named in stated if named.name == "default"), None)


def _text(token: str | _Token | None) -> str:
    if token is None:
        return ""
    return token if isinstance(token, str) else token.content

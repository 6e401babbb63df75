"""The words of a model in a Hugging Face or onnxruntime-genai directory, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.importers.hf_chat import HfChat
from edge_agent.importers.hf_tokenizer import read_tokenizer
from edge_agent.text.chat import ChatTemplate

if TYPE_CHECKING:
    from edge_agent.importers.directory import Directory
    from edge_agent.importers.hf_config import HfConfig
    from edge_agent.messages import Sampling


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What `source.Model` says of words, and the sampling that stands beside them."""

    tokenizer: bytes
    chat_template: str
    stop_token_ids: tuple[int, ...]
    sampling: Sampling


def read_words(directory: Directory, config: HfConfig) -> Words:
    """Read tokenizer, chat template, end tokens and sampling of the model that `config` describes.

    Loading a large tokenizer takes some hundred megabytes, which are free again on return.

    Raises:
        ModelError: a file is missing, too large or damaged; the tokenizer is not byte-level BPE or
            has ids the model does not; the template does not compile; no token ends an answer.
    """
    tokenizer = read_tokenizer(directory, config.shape.vocab)
    chat = HfChat(directory)
    template = chat.template()
    ChatTemplate(template, tokenizer.tokenizer)  # compiles, or says why not
    return Words(
        tokenizer=tokenizer.content,
        chat_template=template,
        stop_token_ids=chat.stop_token_ids(config, tokenizer.ids),
        sampling=chat.sampling(),
    )

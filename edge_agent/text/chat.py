"""Conversations to token ids, by the chat template of the model's package.

The template runs in jinja2's sandbox. Message contents pass through it inside random marks, so
that afterwards we know which characters a user wrote: control tokens are looked for outside the
marks only. Text on both sides of a mark is encoded together, as the reference tokenizers do.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, NoReturn

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from edge_agent.errors import InvalidRequest, ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from edge_agent.messages import Message
    from edge_agent.text.tokenizer import Tokenizer


class ChatTemplate:
    """A model's way to write a conversation."""

    def __init__(self, source: str, tokenizer: Tokenizer) -> None:
        """Compile `source`, a jinja2 chat template as Hugging Face packages carry it.

        Raises:
            ModelError: the template does not compile.
        """
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._tokenizer = tokenizer
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as exc:
            msg = f"chat template: {exc}"
            raise ModelError(msg) from exc

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer) -> ChatTemplate:
        """Read and compile the template file of a package.

        Raises:
            ModelError: unreadable or does not compile.
        """
        try:
            source = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"{path}: {exc}"
            raise ModelError(msg) from exc
        return cls(source, tokenizer)

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """Return the prompt's token ids, ending where the assistant begins to speak.

        Raises:
            InvalidRequest: the template does not allow this conversation.
            ModelError: the template changed what a message says, or failed.
        """
        # Digits alone: no filter that changes case could hide a mark from the check below.
        nonce = str(secrets.randbits(128))
        rendered = self._render(messages, opening=f"<{nonce}>", closing=f"</{nonce}>")
        ids: list[int] = []
        text = ""
        for piece in self._pieces(rendered, f"<{nonce}>(.*?)</{nonce}>", nonce):
            if isinstance(piece, str):
                text += piece
            else:
                ids += [*self._tokenizer.encode(text), piece]
                text = ""
        return ids + self._tokenizer.encode(text)

    def _render(self, messages: Sequence[Message], *, opening: str, closing: str) -> str:
        marked = [
            {"role": message.role.value, "content": f"{opening}{message.content}{closing}"}
            for message in messages
        ]
        try:
            return self._template.render(
                messages=marked, add_generation_prompt=True, bos_token="", eos_token=""
            )
        except jinja2.TemplateError as exc:
            msg = f"chat template: {exc}"
            raise ModelError(msg) from exc

    def _pieces(self, rendered: str, marked: str, nonce: str) -> Iterator[str | int]:
        """Yield text and control ids; what stood inside the marks is always text."""
        # split() with one group alternates: outside, inside, outside, …
        for i, part in enumerate(re.split(marked, rendered, flags=re.DOTALL)):
            if nonce in part:
                msg = "chat template: cuts or repeats parts of a message, which is not supported"
                raise ModelError(msg)
            if i % 2:
                yield part
            else:
                yield from self._tokenizer.split_control(part)


def _refuse(message: str) -> NoReturn:
    """What templates call when they do not allow a conversation."""
    raise InvalidRequest(message, "messages")

"""Turns requests into token ids that the engine can run; knows no weights and no slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edge_agent.engine.answer import Prepared
from edge_agent.engine.heap import give_back
from edge_agent.errors import PromptTooLong
from edge_agent.messages import Sampling, ToolMode
from edge_agent.text.answer_text import Offer
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer
from edge_agent.text.tool_calls import TAGS

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.messages import Request
    from edge_agent.modelstore.manifest import Manifest
    from edge_agent.text.tool_prompt import Opening

# Tokenizing more leaves tens of megabytes of free heap, which costs a few milliseconds to return.
_LARGE_TOKENS = 1 << 16


class Preparer:
    """The reading side of a model: its tokenizer, its template, its defaults."""

    def __init__(self, package: Path, manifest: Manifest, *, context: int) -> None:
        """Load what `package` has of text, for at most `context` tokens per request.

        Raises:
            ModelError: the package cannot be loaded.
        """
        self.tokenizer = Tokenizer.load(package / "tokenizer.json")
        self.stop_ids = frozenset(manifest.stop_token_ids)
        self._context = context
        self._defaults = manifest.sampling
        self._template = ChatTemplate.load(package / "chat_template.jinja", self.tokenizer)
        control = self.tokenizer.control
        self._tags = {control[tag]: tag.encode() for tag in TAGS if tag in control}

    def prepare(self, request: Request) -> Prepared:
        """Render and tokenize `request`, and check that it fits. Any thread.

        Raises:
            PromptTooLong: no token of the context would be left for the answer.
            InvalidRequest: the chat template does not allow this conversation.
            Unsupported: the answer has to be a call, and this model cannot be made to.
        """
        tools = () if request.tool_choice is ToolMode.NONE else request.tools
        opening = self._template.opening(request.tool_choice) if tools else None
        prompt = self._template.encode(request.messages, tools, opening)
        room = self._context - len(prompt)
        if len(prompt) > _LARGE_TOKENS:
            give_back()
        if room < 1:
            raise PromptTooLong(len(prompt), self._context - 1)
        return Prepared(
            id=request.id,
            prompt=prompt,
            max_tokens=min(request.max_tokens or room, room),
            stop=request.stop,
            stop_ids=self.stop_ids,
            sampling=_with_defaults(request.sampling, self._defaults),
            offer=self._offer(request, opening) if tools else None,
        )

    def _offer(self, request: Request, opening: Opening | None) -> Offer:
        return Offer(
            names=[tool.name for tool in request.tools],
            opening=opening.tag + opening.text if opening else "",
            tags=self._tags,
            many=request.parallel_tool_calls,
        )


def _with_defaults(sampling: Sampling, defaults: Sampling) -> Sampling:
    """Return `sampling` with what it leaves open taken from `defaults`."""
    asked = {
        name: value for name, value in msgspec.structs.asdict(sampling).items() if value is not None
    }
    return msgspec.structs.replace(defaults, **asked)

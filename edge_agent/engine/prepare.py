"""Turns requests into token ids that the engine can run; knows no weights and no slots."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import msgspec

from edge_agent.calls.reader import TAGS
from edge_agent.engine.adjustments import Late
from edge_agent.engine.answer import Prepared
from edge_agent.engine.heap import give_back
from edge_agent.engine.logprobs import Asked
from edge_agent.errors import InvalidRequest, PromptTooLong
from edge_agent.messages import Message, Role, Sampling, ToolMode
from edge_agent.text.answer_text import Offer
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer, TooMany

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from edge_agent.engine.logprobs import Spelled
    from edge_agent.messages import Request, Tool
    from edge_agent.modelstore.manifest import Manifest
    from edge_agent.text.tool_prompt import Opening

# Tokenizing more leaves tens of megabytes of free heap, which costs a few milliseconds to return.
_LARGE_TOKENS = 1 << 16
# Log-probabilities of one answer, those of other tokens too: about 25 MB, held until it is whole.
MOST_LOGPROBS = 1 << 17


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
        self._vocab = manifest.shape.vocab
        self._defaults = manifest.sampling
        self._template = ChatTemplate.load(package / "chat_template.jinja", self.tokenizer)
        control = self.tokenizer.control
        self._tags = {control[tag]: tag.encode() for tag in TAGS if tag in control}
        self._control = {token: text for text, token in control.items()}

    def prepare(self, request: Request) -> Prepared:
        """Render and tokenize `request`, and check that it fits. Any thread.

        Raises:
            PromptTooLong: no token of the context would be left for the answer.
            InvalidRequest: the chat template does not allow this conversation; a token is none of
                the vocabulary; or there is no room for what the answer shall have at least.
            Unsupported: the answer has to be a call, and this model cannot be made to.
        """
        self._check_ids(request.logit_bias, "logit_bias")
        self._check_ids(request.stop_token_ids, "stop_token_ids")
        tools = () if request.tool_choice is ToolMode.NONE else request.tools
        opening = self._template.opening(request.tool_choice) if tools else None
        limit = self._context - 1
        try:
            prompt = self._template.encode(request.messages, tools, opening, most=limit)
        except TooMany as exc:
            raise PromptTooLong(exc.least, limit, is_least=True) from exc
        room = self._context - len(prompt)
        if len(prompt) > _LARGE_TOKENS:
            give_back()
        if room < 1:
            raise PromptTooLong(len(prompt), limit)
        max_tokens = _max_tokens(request, room)
        own = frozenset(request.stop_token_ids)
        return Prepared(
            id=request.id,
            prompt=prompt,
            max_tokens=max_tokens,
            stop=request.stop,
            stop_ids=own if request.ignore_eos else self.stop_ids | own,
            sampling=_with_defaults(request.sampling, self._defaults),
            offer=self._offer(request, opening) if tools else None,
            own_stop_ids=own,
            # The model's own ends too if they are ignored: vLLM has it so.
            late=self._late(request, max_tokens) if request.min_tokens else None,
            bias=request.logit_bias,
            logprobs=self._asked(request.logprobs),
            priority=request.priority,
            client=request.client,
            deadline_s=request.deadline_s,
        )

    def beginning(self, system: str | None, tools: Sequence[Tool] = ()) -> list[int]:
        """Return the tokens that prompts begin with that have this system message and these tools.

        Any thread.

        Raises:
            InvalidRequest: the chat template has no place for them.
            ModelError: the chat template fails.
        """
        before = [] if system is None else [Message(role=Role.SYSTEM, content=system)]

        def prompt(user: str) -> list[int]:
            return self._template.encode([*before, Message(role=Role.USER, content=user)], tools)

        pairs = takewhile(
            lambda pair: pair[0] == pair[1], zip(prompt("0"), prompt("A"), strict=False)
        )
        return [token for token, _ in pairs]

    def _check_ids(self, ids: Iterable[int], param: str) -> None:
        for token in ids:
            if not 0 <= token < self._vocab:
                problem = f"token {token} is none of the model's {self._vocab}"
                raise InvalidRequest(problem, param)

    def _late(self, request: Request, max_tokens: int) -> Late:
        if request.min_tokens > max_tokens:
            problem = f"{request.min_tokens} tokens, and there is room for {max_tokens}"
            raise InvalidRequest(problem, "min_tokens")
        return Late(ids=self.stop_ids.union(request.stop_token_ids), min_tokens=request.min_tokens)

    def _asked(self, num_top: int | None) -> Asked | None:
        return None if num_top is None else Asked(num_top=num_top, spell=self._spell)

    def _spell(self, token: int) -> Spelled:
        if token in self._control:
            return self._control[token], None
        data = self.tokenizer.bytes_of(token)
        return data.decode(errors="replace"), data

    def _offer(self, request: Request, opening: Opening | None) -> Offer:
        return Offer(
            names=[tool.name for tool in request.tools],
            opening=opening.tag + opening.text if opening else "",
            tags=self._tags,
            many=request.parallel_tool_calls,
        )


def _max_tokens(request: Request, room: int) -> int:
    """Return the bound of the answer: by the request, the context, and its log-probabilities.

    Raises:
        InvalidRequest: it asks for more log-probabilities than an answer can have.
    """
    most = room
    if request.logprobs is not None:
        most = min(room, MOST_LOGPROBS // (1 + request.logprobs))
        if most < min(request.max_tokens or 0, room):
            problem = f"at most {most} tokens can have {request.logprobs} top_logprobs each"
            raise InvalidRequest(problem, "max_tokens")
    return min(request.max_tokens or most, most)


def _with_defaults(sampling: Sampling, defaults: Sampling) -> Sampling:
    """Return `sampling` with what it leaves open taken from `defaults`."""
    asked = {
        name: value for name, value in msgspec.structs.asdict(sampling).items() if value is not None
    }
    return msgspec.structs.replace(defaults, **asked)

"""Tells from the text of a request what it will need, without a tokenizer. Arithmetic only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import msgspec

from edge_agent.messages import Policy, Role
from edge_agent.modelstore.fit import fit
from edge_agent.serving.admission import Need

if TYPE_CHECKING:
    from edge_agent.config import Engine
    from edge_agent.messages import Request
    from edge_agent.modelstore.manifest import Manifest

# English runs at 4 to 5 bytes a token with the vocabularies in use, code and most other languages
# at 3 or 4: an estimate that errs on the side of more tokens.
BYTES_PER_TOKEN = 3
# Role, separators and the like, in every template we know.
TOKENS_PER_MESSAGE = 4
# Answers without a limit mostly end by themselves; few are longer. Those are the guard's matter: to
# keep the whole context free for each would leave most of the memory unused.
LEAST_ANSWER_TOKENS = 512


class Budget(Protocol):
    """What memory requests of a model take (`edge_agent.guard.budget.Budget`)."""

    def cache_bytes(self, tokens: int) -> int:
        """Return what K and V of `tokens` take; it goes back with the request."""
        ...

    def shared_bytes(self, *, slots: int) -> int:
        """Return what the first requests leave with the engine, and later ones use again."""
        ...

    def most_tokens(self, free_bytes: int) -> int:
        """Return how many tokens of prompt and answer fit into `free_bytes`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is known of a prompt before it is tokenized."""

    prompt_bytes: int
    least_tokens: int
    likely_tokens: int


def size_of(request: Request, *, longest_token_bytes: int | None) -> Size:
    """Return the size of the prompt of `request`: messages, calls and tools.

    No token stands for more than `longest_token_bytes`; None if that is not known.
    """
    # Templates write calls and definitions in ways of their own: they count for the estimate alone.
    calls = sum(
        len(call.name) + len(call.arguments)
        for message in request.messages
        for call in message.tool_calls
    )
    tools = len(msgspec.json.encode(request.tools)) if request.tools else 0
    contents = sum(_bytes(message.content) for message in request.messages)
    # Templates may trim a message, and leave thoughts out of earlier answers.
    sure = sum(
        _bytes(message.content.strip())
        for message in request.messages
        if message.role in {Role.SYSTEM, Role.USER}
    )
    prompt_bytes = contents + calls + tools
    markup = TOKENS_PER_MESSAGE * len(request.messages)
    return Size(
        prompt_bytes=prompt_bytes,
        least_tokens=sure // longest_token_bytes if longest_token_bytes else 0,
        likely_tokens=prompt_bytes // BYTES_PER_TOKEN + markup,
    )


def _bytes(text: str) -> int:
    # Of a megabyte of ASCII nothing has to be copied to know its size.
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Sizes:
    """Sizes up requests for the model that is served, as far as it is known."""

    def __init__(self) -> None:
        self._budget: Budget | None = None
        self._context_tokens: int | None = None
        self._most_bytes: int | None = None
        self._longest_token_bytes: int | None = None

    def know(
        self,
        budget: Budget | None,
        *,
        context_tokens: int | None,
        most_bytes: int | None,
        longest_token_bytes: int | None,
    ) -> None:
        """Learn of the model: what its requests take, and all of them together may.

        No token of it stands for more than `longest_token_bytes` of text; None: unknown.
        """
        self._budget = budget
        self._context_tokens = context_tokens
        self._most_bytes = most_bytes
        self._longest_token_bytes = longest_token_bytes

    def need(self, request: Request) -> Need:
        """Return what `request` asks for."""
        size = size_of(request, longest_token_bytes=self._longest_token_bytes)
        need = Need(
            prompt_bytes=size.prompt_bytes,
            least_tokens=size.least_tokens,
            likely_tokens=size.likely_tokens,
            needed_bytes=None,
            policy=request.policy or Policy.LOCAL,
        )
        budget, context = self._budget, self._context_tokens
        if budget is None or context is None:
            return need
        prompt_tokens = min(size.likely_tokens, context)
        answer = LEAST_ANSWER_TOKENS if request.max_tokens is None else request.max_tokens
        answer_tokens = min(answer, max(1, context - prompt_tokens))
        return replace(
            need,
            tokens=prompt_tokens + answer_tokens,
            needed_bytes=budget.cache_bytes(prompt_tokens + answer_tokens),
            prompt_memory_bytes=budget.cache_bytes(prompt_tokens),
            fits_tokens=budget.most_tokens(self._most_bytes or 0),
        )


def engine_bytes(manifest: Manifest, engine: Engine, *, is_prepared: bool) -> int:
    """Return the memory that the engine takes before any request, file pages apart.

    `is_prepared`: the weights are mapped from a file, which the system may drop and read again.
    """
    sum_ = fit(
        manifest.shape,
        manifest.quantization,
        free_bytes=0,
        is_prepared=is_prepared,
        slots=engine.slots,
        context=0,
        longest_context=manifest.context,
        chunk_tokens=engine.chunk_tokens,
        kv_dtype=engine.kv_dtype,
        prefix_bytes=0,  # comes with the requests, and goes when memory is short
    )
    return sum(line.num_bytes for line in sum_.lines if not line.is_file)

"""What the model answers greedily when it is asked alone, and how near each choice was.

Kernels round differently for other row counts, so an answer given in company may leave the one
given alone where the two best logits are nearly equal; anywhere else it must not.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.batch import Row
from edge_agent.engine.engine import Engine
from edge_agent.messages import Message, Request, Role
from tests.real.fidelity.agreement import NEAR_TIE_LOGITS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHUNK_TOKENS = 128


@dataclass(frozen=True, slots=True)
class Choice:
    """One greedy step: the bytes of the best token and of the second, none for one that stops."""

    best: bytes
    second: bytes
    gap: float
    """The best logit minus the second."""


def text_of(choices: Sequence[Choice]) -> str:
    """Return the answer; a character that was cut at its end is not in it."""
    return b"".join(choice.best for choice in choices).decode(errors="ignore")


def may_be_answer(text: str, choices: Sequence[Choice], *, is_all: bool = True) -> bool:
    """Tell whether `text` (or, not `is_all`, its start) is the answer that `choices` make.

    Or whether it leaves that answer at a near tie, with the token that came second.
    """
    alone = text_of(choices)
    if text == alone or (not is_all and alone.startswith(text)):
        return True
    rest = text.encode()
    for choice in choices:
        if choice.gap <= NEAR_TIE_LOGITS and _goes_on_with(rest, choice.second):
            return True
        if not rest.startswith(choice.best):
            return False
        rest = rest[len(choice.best) :]
    return False


def _goes_on_with(rest: bytes, token: bytes) -> bool:
    if not token or not rest:
        return rest == token
    return rest.startswith(token) or token.startswith(rest)


class GreedyModel:
    """The engine in this process, asked one thing at a time."""

    def __init__(self, package: Path) -> None:
        self._engine = Engine(
            package, slots=1, context=1024, chunk_tokens=CHUNK_TOKENS, threads=2, queue_requests=1
        )

    @functools.cache  # noqa: B019  # lives as long as its test
    def choices(self, prompt: str, max_tokens: int) -> tuple[Choice, ...]:
        """Return the choices of the greedy answer to `prompt`."""
        engine = self._engine
        message = Message(role=Role.USER, content=prompt)
        request = Request(id="alone", messages=(message,), max_tokens=max_tokens)
        choices = tuple(self._decode(engine.prepare(request).prompt, max_tokens))
        engine._decoder.arena.release(0)
        return choices

    def _decode(self, prompt: Sequence[int], max_tokens: int) -> Iterator[Choice]:
        engine = self._engine
        past = 0
        while len(prompt) - past > CHUNK_TOKENS:
            chunk = prompt[past : past + CHUNK_TOKENS]
            engine._decoder.forward([Row(slot=0, past=past, tokens=chunk, num_logits=0)])
            past += CHUNK_TOKENS
        tokens = prompt[past:]
        for _ in range(max_tokens):
            row = Row(slot=0, past=past, tokens=tokens, num_logits=1)
            logits = engine._decoder.forward([row])[0]
            logits[engine._holes] = -np.inf
            second, best = (int(token) for token in np.argsort(logits)[-2:])
            gap = float(logits[best] - logits[second])
            yield Choice(self._bytes(best), self._bytes(second), gap)
            if best in engine._preparer.stop_ids:
                return
            past, tokens = past + len(tokens), [best]

    def _bytes(self, token: int) -> bytes:
        engine = self._engine
        return b"" if token in engine._preparer.stop_ids else engine._tokenizer.bytes_of(token)

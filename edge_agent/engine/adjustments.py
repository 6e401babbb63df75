"""What changes logits before a token is chosen, in vLLM's order: forbidden ends, bias, penalties.

Every adjustment is settled before the decode loop; an answer that asks for none has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from edge_agent.messages import Sampling

    Logits = NDArray[np.float32]
    """float32 [vocab]; whoever gets it may write to it."""


# Different tokens of most answers; for more the room is doubled, so that no step copies them all.
_FIRST_ROOM = 1024


class Adjustment(Protocol):
    """Changes the logits of one answer, step by step."""

    def apply(self, logits: Logits) -> None:
        """Change `logits` float32 [vocab] in place."""
        ...

    def count(self, token: int) -> None:
        """Know that `token` was chosen."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """Tokens that may not be among the first `min_tokens` of an answer."""

    ids: Collection[int]
    min_tokens: int


def adjustments(
    sampling: Sampling,
    *,
    prompt: Sequence[int],
    vocab: int,
    bias: Mapping[int, float],
    late: Late | None,
) -> list[Adjustment]:
    """Return what an answer to `prompt` asks for; all ids are below `vocab`."""
    found: list[Adjustment] = []
    if late and late.min_tokens and late.ids:
        found.append(_NotYet(late))
    if bias:
        found.append(_Bias(bias))
    repetition = sampling.repetition_penalty or 1.0
    if repetition != 1:
        found.append(_Repetition(repetition, _Seen(vocab, prompt)))
    presence, frequency = sampling.presence_penalty or 0.0, sampling.frequency_penalty or 0.0
    if presence or frequency:
        found.append(_Additive(presence, frequency, _Seen(vocab)))
    return found


class _NotYet:
    """Forbids tokens until there are enough others."""

    def __init__(self, late: Late) -> None:
        self._ids = np.array(sorted(late.ids), np.intp)
        self._left = late.min_tokens

    def apply(self, logits: Logits) -> None:
        if self._left:
            logits[self._ids] = -np.inf

    def count(self, token: int) -> None:  # noqa: ARG002  # any token counts
        self._left = max(self._left - 1, 0)


class _Bias:
    """Adds to the logits of single tokens. Source: OpenAI's API reference for logit_bias."""

    def __init__(self, bias: Mapping[int, float]) -> None:
        self._ids = np.array(list(bias), np.intp)
        self._values = np.array(list(bias.values()), np.float32)

    def apply(self, logits: Logits) -> None:
        logits[self._ids] += self._values

    def count(self, token: int) -> None:
        """Nothing: the bias of a token stays what it is."""


class _Seen:
    """Tokens seen so far, each once, with how often."""

    def __init__(self, vocab: int, tokens: Sequence[int] = ()) -> None:
        self._counts = np.zeros(vocab, np.int32)
        np.add.at(self._counts, np.asarray(tokens, np.int64), 1)
        first = np.flatnonzero(self._counts)
        self._num_ids = len(first)
        self._ids = np.resize(first, max(2 * len(first), _FIRST_ROOM))

    def add(self, token: int) -> None:
        if self._counts[token] == 0:
            if self._num_ids == len(self._ids):
                self._ids = np.resize(self._ids, 2 * len(self._ids))
            self._ids[self._num_ids] = token
            self._num_ids += 1
        self._counts[token] += 1

    @property
    def ids(self) -> NDArray[np.intp]:
        return self._ids[: self._num_ids]

    @property
    def counts(self) -> NDArray[np.int32]:
        counts: NDArray[np.int32] = self._counts[self.ids]
        return counts


class _Repetition:
    """Divides positive and multiplies negative logits of all tokens seen, prompt included.

    Source: Keskar et al. 2019 (CTRL), as Hugging Face and vLLM apply it.
    """

    def __init__(self, penalty: float, seen: _Seen) -> None:
        self._penalty = np.float32(penalty)
        self._seen = seen

    def apply(self, logits: Logits) -> None:
        ids = self._seen.ids
        values = logits[ids]
        logits[ids] = np.where(values > 0, values / self._penalty, values * self._penalty)

    def count(self, token: int) -> None:
        self._seen.add(token)


class _Additive:
    """Subtracts `presence` once and `frequency` per occurrence, for tokens of the answer.

    Source: OpenAI's API reference for presence_penalty and frequency_penalty.
    """

    def __init__(self, presence: float, frequency: float, seen: _Seen) -> None:
        self._presence = np.float32(presence)
        self._frequency = np.float32(frequency)
        self._seen = seen

    def apply(self, logits: Logits) -> None:
        seen = self._seen
        logits[seen.ids] -= self._presence + self._frequency * seen.counts.astype(np.float32)

    def count(self, token: int) -> None:
        self._seen.add(token)

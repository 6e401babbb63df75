"""One request while it is being answered: its tokens, its text, its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.engine.sampler import Picker
from edge_agent.messages import Delta, Done, FinishReason, Timings, ToolCall, Usage
from edge_agent.text.answer_text import AnswerText

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from edge_agent.engine.sampler import Logits
    from edge_agent.messages import Event, Sampling
    from edge_agent.text.answer_text import Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request turned into token ids, checked to fit, and not yet begun."""

    id: str
    prompt: Sequence[int]
    max_tokens: int
    """Tokens that may be generated; prompt and answer together fit the context."""
    stop: Sequence[str]
    stop_ids: Collection[int]
    """Tokens that end the answer and are not part of its text."""
    sampling: Sampling
    """With the defaults of the model's package filled in."""
    offer: Offer | None = None
    """The tools that the answer may call."""


@dataclass(slots=True, kw_only=True)
class Clock:
    """When the stages of an answer began, in seconds of one monotonic clock."""

    submitted_s: float
    admitted_s: float = 0.0
    first_token_s: float = 0.0

    def timings(self, now_s: float) -> Timings:
        """Return how long each stage took, to the microsecond."""
        first_token_s = self.first_token_s or now_s
        return Timings(
            queue_s=round(self.admitted_s - self.submitted_s, 6),
            prefill_s=round(first_token_s - self.admitted_s, 6),
            decode_s=round(now_s - first_token_s, 6),
        )


class RunningAnswer:
    """An admitted request in its slot."""

    def __init__(
        self, prepared: Prepared, *, slot: int, vocab: int, arrival: int, clock: Clock
    ) -> None:
        self.id = prepared.id
        self.slot = slot
        self.arrival = arrival
        """Rises by one per admitted request: who came first."""
        self.clock = clock
        self.cached = 0
        """Tokens that the slot's KV cache holds."""
        self._prepared = prepared
        self._generated: list[int] = []
        self._picker = Picker(prepared.sampling, prompt=prepared.prompt, vocab=vocab)
        self._text = AnswerText(stop=prepared.stop, offer=prepared.offer)

    @property
    def prompt_left(self) -> int:
        """Prompt tokens that are not in the cache yet."""
        return max(len(self._prepared.prompt) - self.cached, 0)

    @property
    def total_tokens(self) -> int:
        """The most tokens that this answer can come to, prompt included."""
        return len(self._prepared.prompt) + self._prepared.max_tokens

    def next_tokens(self, count: int) -> Sequence[int]:
        """Return the `count` tokens to compute next: prompt, or the last one generated."""
        if self.prompt_left:
            return self._prepared.prompt[self.cached : self.cached + count]
        return self._generated[-1:]

    def pick(self, logits: Logits) -> int:
        """Choose the next token from logits float32 [vocab], which may be changed in place."""
        return self._picker.pick(logits)

    def commit(self, token: int, data: bytes, *, now_s: float) -> list[Event]:
        """Add a chosen token with its text bytes; return what to tell, `Done` if it is the last."""
        self.clock.first_token_s = self.clock.first_token_s or now_s
        self._generated.append(token)
        is_stop = token in self._prepared.stop_ids
        pieces = [] if is_stop else self._text.feed(token, data)
        is_stop = is_stop or self._text.is_enough
        is_over = is_stop or len(self._generated) >= self._prepared.max_tokens
        if is_over:
            pieces += self._text.finish()
        told: list[Event] = [
            piece if isinstance(piece, ToolCall) else Delta(piece) for piece in pieces
        ]
        if is_over:
            told.append(self._done(FinishReason.STOP if is_stop else FinishReason.LENGTH, now_s))
        return told

    def _done(self, reason: FinishReason, now_s: float) -> Done:
        if reason is FinishReason.STOP and self._text.num_calls:
            reason = FinishReason.TOOL_CALLS
        usage = Usage(
            prompt_tokens=len(self._prepared.prompt), completion_tokens=len(self._generated)
        )
        timings = self.clock.timings(now_s)
        return Done(finish_reason=reason, usage=usage, timings=timings, stop=self._text.stopped_by)

"""One request while it is being answered: its tokens, its text, its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from edge_agent.engine.draft import Drafter
from edge_agent.engine.logprobs import Unsaid
from edge_agent.engine.sampler import Picker
from edge_agent.messages import Delta, Done, FinishReason, Priority, ToolCall, Usage
from edge_agent.text.answer_text import AnswerText

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from edge_agent.calls.reader import Piece
    from edge_agent.engine.acceptance import Acceptance
    from edge_agent.engine.adjustments import Late, Logits
    from edge_agent.engine.clock import Clock
    from edge_agent.engine.logprobs import Asked
    from edge_agent.messages import Event, Sampling, TokenLogprob
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
    own_stop_ids: Collection[int] = ()
    """Those of `stop_ids` that the request names."""
    late: Late | None = None
    """What may not be chosen at first; stop strings do not end the answer before either."""
    bias: Mapping[int, float] = field(default_factory=dict)
    logprobs: Asked | None = None
    priority: Priority = Priority.NORMAL
    client: str = ""
    """Whom it counts for when slots are shared out."""
    deadline_s: float | None = None
    """From when it is submitted."""


class RunningAnswer:
    """A request that was begun, in its slot; preempted, it has none until it is resumed."""

    def __init__(
        self, prepared: Prepared, *, slot: int, vocab: int, arrival: int, clock: Clock
    ) -> None:
        self.id = prepared.id
        self.slot = slot
        self.arrival = arrival
        """Rises by one per request: who came first."""
        self.clock = clock
        self.cached = 0
        """Tokens that the slot's KV cache holds."""
        self.is_over = False
        """Its last token was committed."""
        self._taken_over = 0
        self._was_cached = 0
        """The most that it had in a slot's cache before it was preempted."""
        self._prepared = prepared
        self._generated: list[int] = []
        self._picker = Picker(
            prepared.sampling,
            prompt=prepared.prompt,
            vocab=vocab,
            bias=prepared.bias,
            late=prepared.late,
        )
        self._text = AnswerText(stop=prepared.stop, offer=prepared.offer)
        self._unsaid = Unsaid(prepared.logprobs) if prepared.logprobs else None
        self._drafter: Drafter | None = None
        self._drafts: Sequence[int] = ()

    @property
    def prepared(self) -> Prepared:
        """What it answers."""
        return self._prepared

    @property
    def known(self) -> Sequence[int]:
        """Prompt and answer, as far as it goes."""
        return [*self._prepared.prompt, *self._generated]

    @property
    def unread(self) -> int:
        """Known tokens that are not in the cache yet; 0 once it decodes.

        Those are of the prompt, or after a preemption of its own answer too.
        """
        left = len(self._prepared.prompt) + len(self._generated) - self.cached
        return 0 if self._generated and left == 1 else left

    @property
    def total_tokens(self) -> int:
        """The most tokens that this answer can come to, prompt included."""
        return len(self._prepared.prompt) + self._prepared.max_tokens

    def take_over(self, count: int) -> None:
        """Count the next `count` known tokens as cached: others had computed them."""
        before = max(self.cached, self._was_cached)
        self.cached += count
        self._taken_over += max(self.cached - before, 0)

    def resume(self, slot: int, *, kept_tokens: int) -> None:
        """Go on in `slot`, whose cache still holds the first `kept_tokens` known ones."""
        self._was_cached = max(self._was_cached, self.cached)
        self.slot, self.cached = slot, kept_tokens

    def offer(self, most_drafts: int, experience: Acceptance) -> list[float]:
        """Guess what comes next; return, draft by draft, the chance that all so far come true.

        There are never more than could still be told. `experience` is what this engine's answers
        share of how often guesses come true. Only for an answer that decodes.
        """
        if self._drafter is None:
            # Not sooner: it takes a microsecond a token, and the first token shall not wait.
            known = chain(self._prepared.prompt, self._generated)
            self._drafter = Drafter(known, experience)
        room = self._prepared.max_tokens - len(self._generated) - 1
        self._drafts = self._drafter.offer(min(most_drafts, room))
        return self._drafter.chances()

    def next_tokens(self, count: int) -> Sequence[int]:
        """Return the `count` tokens to compute next: unread ones, or the newest one and drafts."""
        if not self.unread:
            return [self._generated[-1], *self._drafts[: count - 1]]
        prompt, end = self._prepared.prompt, self.cached + count
        if end <= len(prompt):
            return prompt[self.cached : end]
        return self.known[self.cached : end]

    def pick(self, logits: Logits) -> int:
        """Choose the next token from logits float32 [vocab], which may be changed in place."""
        if self._unsaid is None:
            return self._picker.pick(logits)
        raw = logits.copy()
        token = self._picker.pick(logits)
        self._unsaid.note(token, raw, first_char=self._text.num_chars)
        return token

    def commit(self, token: int, data: bytes, *, now_s: float) -> list[Event]:
        """Add a chosen token with its text bytes; return what to tell, `Done` if it is the last."""
        self.clock.has_token(now_s)
        self._generated.append(token)
        if self._drafter:
            self._drafter.learn(token)
        is_stop = token in self._prepared.stop_ids
        pieces = [] if is_stop else self._text.feed(token, data, may_stop=self._may_stop)
        is_stop = is_stop or self._text.is_enough
        self.is_over = is_stop or len(self._generated) >= self._prepared.max_tokens
        if self.is_over:
            pieces += self._text.finish()
        told = self._told(pieces, self._logprobs())
        if self.is_over:
            told.append(self._done(FinishReason.STOP if is_stop else FinishReason.LENGTH, now_s))
        return told

    @property
    def _may_stop(self) -> bool:
        """Whether a stop string may end in the last token."""
        late = self._prepared.late
        return late is None or len(self._generated) > late.min_tokens

    def _logprobs(self) -> tuple[TokenLogprob, ...]:
        """Return the log-probabilities of which the text is told now, or never."""
        if self._unsaid is None:
            return ()
        return self._unsaid.rest() if self.is_over else self._unsaid.due(self._text.num_settled)

    def _told(self, pieces: list[Piece], logprobs: tuple[TokenLogprob, ...]) -> list[Event]:
        """Return the events of `pieces`; the first text, or else an empty one, has `logprobs`."""
        if logprobs and not any(isinstance(piece, str) for piece in pieces):
            pieces = ["", *pieces]
        told: list[Event] = []
        for piece in pieces:
            if isinstance(piece, ToolCall):
                told.append(piece)
            else:
                told.append(Delta(piece, logprobs))
                logprobs = ()
        return told

    def _stop(self) -> str | int | None:
        """Return what ended the answer, if it is something that the request names."""
        token = self._generated[-1]
        return token if token in self._prepared.own_stop_ids else self._text.stopped_by

    def _done(self, reason: FinishReason, now_s: float) -> Done:
        if reason is FinishReason.STOP and self._text.num_calls:
            reason = FinishReason.TOOL_CALLS
        usage = Usage(
            prompt_tokens=len(self._prepared.prompt),
            completion_tokens=len(self._generated),
            cached_tokens=self._taken_over,
        )
        timings = self.clock.timings(now_s)
        return Done(finish_reason=reason, usage=usage, timings=timings, stop=self._stop())

"""The engine: requests in, events out, one forward step at a time, no event loop.

`prepare` may be called from any thread; everything else belongs to the one thread that steps.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.batch import Row
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.laps import Stage
from edge_agent.engine.loading import load
from edge_agent.engine.scheduler.pace import Pace
from edge_agent.engine.scheduler.plan import plan
from edge_agent.engine.slots import Slots, Turn
from edge_agent.engine.speculation import Speculation
from edge_agent.messages import Accepted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.engine.answer import Prepared, RunningAnswer
    from edge_agent.engine.scheduler.plan import Work
    from edge_agent.messages import Beginning, Event, Request


class Engine:
    """A loaded model with its slots and its queue."""

    def __init__(  # noqa: PLR0913  # each is a knob of the configuration, named by keyword
        self,
        package: Path,
        *,
        slots: int,
        context: int,
        chunk_tokens: int,
        threads: int,
        queue_requests: int,
        kv_dtype: str = KvDtype.FP32,
        prefix_bytes: int | None = None,
        pinned: Sequence[Beginning] | None = None,
        draft_tokens: int = 0,
        ageing_s: float = 60.0,
        kept_pace: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load `package` with room for `slots` requests of at most `context` tokens each.

        `kv_dtype` is a value of `KvDtype`. Up to `prefix_bytes` of what ended requests leave in the
        KV cache are kept for prompts that begin like them; None: as much as one request can fill.
        What prompts of `pinned` begin with is kept in files of the package; None touches no file.
        Where it pays, up to `draft_tokens` guessed tokens of each answer are verified in a step,
        fewer than `chunk_tokens`. A request that waits for `ageing_s` counts as one priority
        higher. While prompts are read, running answers keep `kept_pace` of their pace.

        Raises:
            ModelError: the package cannot be loaded.
        """
        loaded = load(
            package,
            slots=slots,
            context=context,
            chunk_tokens=chunk_tokens,
            threads=threads,
            kv_dtype=KvDtype(kv_dtype),
            prefix_bytes=prefix_bytes,
            pinned=pinned,
        )
        self.name, self.context = loaded.name, loaded.context
        self.slots, self.threads = slots, threads
        self.laps = loaded.decoder.laps
        self._chunk_tokens = chunk_tokens
        self._kept_pace = kept_pace
        self._clock = clock
        self._preparer = loaded.preparer
        self._tokenizer = loaded.preparer.tokenizer
        self._decoder = loaded.decoder
        self._holes = np.asarray(self._tokenizer.holes(self._decoder.vocab), np.int64)
        self._prefixes = loaded.prefixes
        self._slots = Slots(
            self._decoder,
            self._prefixes,
            slots=slots,
            queue_requests=queue_requests,
            ageing_s=ageing_s,
        )
        self._told: list[tuple[str, Event]] = []
        self._turn: Turn | None = None
        self._pace = Pace()
        self._speculation = Speculation(draft_tokens)

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do or to tell."""
        return bool(self._slots.running or self._slots.waiting or self._told)

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the requests that have a slot."""
        return tuple(answer.id for answer in self._slots.running.values())

    @property
    def prefilling(self) -> int:
        """Number of requests in a slot whose prompt is not read yet."""
        return sum(answer.unread > 0 for answer in self._slots.running.values())

    @property
    def waiting(self) -> int:
        """Number of requests without a slot."""
        return self._slots.waiting

    @property
    def running_tokens(self) -> int:
        """Tokens that running requests have in the KV cache."""
        return self._prefixes.running_tokens

    @property
    def kept_bytes(self) -> int:
        """Memory of what ended requests left in the KV cache, all of which can be given back."""
        return self._prefixes.kept_bytes

    @property
    def drafted_tokens(self) -> int:
        """Guessed tokens that were verified, since the engine was loaded."""
        return self._speculation.drafted

    @property
    def accepted_tokens(self) -> int:
        """Those of them that came true."""
        return self._speculation.accepted

    def prepare(self, request: Request) -> Prepared:
        """Render and tokenize `request`, and check that it fits. Any thread.

        Raises as `Preparer.prepare`.
        """
        return self._preparer.prepare(request)

    def submit(self, prepared: Prepared) -> Accepted:
        """Queue a prepared request; its events come out of `step`.

        Raises:
            Overloaded: the queue is full.
        """
        self._slots.join(prepared, self._clock())
        return Accepted(prompt_tokens=len(prepared.prompt))

    def cancel(self, request_id: str) -> None:
        """Stop working on a request, if it is here: its slot is free before the next step."""
        self._told.extend(self._slots.cancel(request_id))

    def turn(self) -> Turn:
        """Give and take slots for the coming step; return whose requests that concerns.

        `step` does it too, if nobody has since the last one.
        """
        if self._turn is None:
            now_s = self._clock()
            self._told.extend(self._slots.expire(now_s))
            self._turn = self._slots.turn(now_s)
        return self._turn

    def step(self) -> list[tuple[str, Event]]:
        """Compute one step; return the events it brought, those of one request in order."""
        self.laps.begin()
        self.turn()
        self._turn = None
        told, self._told = self._told, []
        self._slots.share()
        began_s = self._clock()
        work = plan(
            self._slots.states(began_s),
            pace=self._pace,
            chunk_tokens=self._chunk_tokens,
            kept_pace=self._kept_pace,
        )
        if work:
            work = self._speculation.widen(work, self._offers(work))
            rows = [self._row(item) for item in work]
            self.laps.lap(Stage.PLAN)
            logits = self._decoder.forward(rows)
            self._learn_pace(work, took_s=self._clock() - began_s)
            told.extend(self._commit(rows, logits))
            self.laps.lap(Stage.TEXT)
        return told

    def shrink_prefixes(self, to_bytes: int) -> int:
        """Keep prefixes of at most `to_bytes` from now on; return the bytes that this freed.

        What was configured remains the most that is kept.
        """
        before = self._prefixes.kept_bytes
        self._slots.drop(self._prefixes.limit(to_bytes))
        return before - self._prefixes.kept_bytes

    def close(self) -> None:
        """Forget everything that runs or waits, or is kept."""
        self._slots.clear()
        self.shrink_prefixes(0)

    def _offers(self, work: Sequence[Work]) -> dict[int, list[float]]:
        """Return by slot the chances of drafts, of every slot that decodes in this step."""
        most, shared = self._speculation.most_drafts, self._speculation.acceptance
        decoding = (self._slots.running[item.slot] for item in work if most)
        return {answer.slot: answer.offer(most, shared) for answer in decoding if not answer.unread}

    def _learn_pace(self, work: tuple[Work, ...], *, took_s: float) -> None:
        chunk = [item.num_tokens for item in work if self._slots.running[item.slot].unread]
        answers, tokens = len(work) - len(chunk), sum(item.num_tokens for item in work)
        self._pace = self._pace.after(
            answers=answers, prompt_tokens=sum(chunk), took_s=took_s, kept_pace=self._kept_pace
        )
        self._speculation.note_step(tokens=tokens, has_prompt=bool(chunk), seconds=took_s)

    def _row(self, item: Work) -> Row:
        answer = self._slots.running[item.slot]
        return Row(
            slot=item.slot,
            past=answer.cached,
            tokens=answer.next_tokens(item.num_tokens),
            # A prompt ends in one row; the newest token and each draft have one of their own.
            num_logits=int(item.num_tokens >= answer.unread) if answer.unread else item.num_tokens,
            position_offset=self._slots.position_offset(answer.total_tokens),
        )

    def _commit(
        self, rows: Sequence[Row], logits: NDArray[np.float32]
    ) -> Iterator[tuple[str, Event]]:
        """Advance every slot that worked; a prompt's end and a decoding row choose tokens."""
        end = 0
        for row in rows:
            start, end = end, end + row.num_logits
            answer = self._slots.running[row.slot]
            self._slots.charge(answer, len(row.tokens))
            for event in self._advance(answer, row, logits[start:end]):
                yield answer.id, event

    def _advance(self, answer: RunningAnswer, row: Row, logits: NDArray[np.float32]) -> list[Event]:
        """Choose a token from each of `logits` while the drafts come true; return what to tell.

        A draft comes true if the token that is chosen in its place is the same: chosen as without
        drafts, from the same logits, by the same noise, with the same tokens counted. So drafts
        change no answer, drawn ones neither; logits after a draft that fails are not looked at,
        and what it left in the cache is overwritten by what comes next.
        """
        num_drafts = max(row.num_logits - 1, 0)
        held = len(row.tokens) - num_drafts
        events: list[Event] = []
        for scores in logits:
            if answer.clock.is_over(self._clock()):
                break  # the next turn ends it
            scores[self._holes] = -np.inf
            self.laps.lap(Stage.TEXT)
            token = answer.pick(scores)
            self.laps.lap(Stage.SAMPLE)
            events += answer.commit(token, self._tokenizer.bytes_of(token), now_s=self._clock())
            comes_true = held < len(row.tokens) and row.tokens[held] == token
            held += comes_true
            if not comes_true or answer.is_over:
                break
        answer.cached += held
        self._prefixes.grow(row.slot, row.tokens[:held])
        accepted = held + num_drafts - len(row.tokens)
        self._speculation.note_drafts(drafted=num_drafts, accepted=accepted)
        if answer.is_over:
            self._slots.release(answer)
        return events

"""The engine: requests in, events out, one forward step at a time, no event loop.

`prepare` may be called from any thread; everything else belongs to the one thread that steps.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.engine.answer import Clock, RunningAnswer
from edge_agent.engine.batch import Row
from edge_agent.engine.decoder import Decoder
from edge_agent.engine.heap import give_back
from edge_agent.engine.kv_cache import KvDtype
from edge_agent.engine.prefix import Prefixes
from edge_agent.engine.prepare import Preparer
from edge_agent.engine.scheduler.pace import Pace
from edge_agent.engine.scheduler.plan import SlotState, plan
from edge_agent.engine.speculation import Speculation
from edge_agent.errors import Cancelled, Overloaded
from edge_agent.messages import Accepted, Failed
from edge_agent.modelstore.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.engine.answer import Prepared
    from edge_agent.engine.prefix import Drop
    from edge_agent.engine.scheduler.plan import Work
    from edge_agent.messages import Event, Request

# What a client is told to wait when the queue is full and nothing has finished yet.
_FULL_RETRY_S = 5.0
# Beyond those that run, for prefixes to stay where they are: conversations and system prompts that
# take turns. They cost addresses, and a comparison each.
_SPARE_SLOTS = 4


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
        draft_tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Load `package` with room for `slots` requests of at most `context` tokens each.

        `kv_dtype` is a value of `KvDtype`. Up to `prefix_bytes` of what ended requests leave in the
        KV cache are kept for prompts that begin like them; None: as much as one request can fill.
        Where it pays, up to `draft_tokens` guessed tokens of each answer are verified in a step,
        fewer than `chunk_tokens`.

        Raises:
            ModelError: the package cannot be loaded.
        """
        manifest = read_manifest(package)
        self.name = manifest.name
        self.context = min(context, manifest.context)
        self.slots = slots
        self.threads = threads
        self._chunk_tokens = chunk_tokens
        self._queue_requests = queue_requests
        self._clock = clock
        self._preparer = Preparer(package, manifest, context=self.context)
        self._stop_ids = self._preparer.stop_ids
        self._tokenizer = self._preparer.tokenizer
        self.longest_token_bytes = self._tokenizer.longest_token_bytes
        self._holes = np.asarray(self._tokenizer.holes(manifest.shape.vocab), np.int64)
        # A row is checked with its padded chunk, so the caches reach one chunk past the context.
        tokens = self.context + chunk_tokens
        rows = slots if prefix_bytes == 0 else slots + _SPARE_SLOTS
        self._decoder = Decoder(
            package,
            manifest,
            slots=rows,
            tokens=tokens,
            threads=threads,
            kv_dtype=KvDtype(kv_dtype),
        )
        arena = self._decoder.arena
        self._prefixes = Prefixes(
            num_slots=rows,
            most_tokens=self.context,
            budget_bytes=arena.bytes_of(self.context) if prefix_bytes is None else prefix_bytes,
            bytes_of=arena.bytes_of,
        )
        give_back()
        self._waiting: deque[tuple[Prepared, Clock]] = deque()
        self._running: dict[int, RunningAnswer] = {}
        self._told: list[tuple[str, Event]] = []
        self._arrivals = 0
        self._pace = Pace()
        self._speculation = Speculation(draft_tokens)

    @property
    def busy(self) -> bool:
        """Whether `step` has anything to do or to tell."""
        return bool(self._running or self._waiting or self._told)

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the requests that have a slot."""
        return tuple(answer.id for answer in self._running.values())

    @property
    def prefilling(self) -> int:
        """Number of requests in a slot whose prompt is not read yet."""
        return sum(answer.unread > 0 for answer in self._running.values())

    @property
    def waiting(self) -> int:
        """Number of requests without a slot."""
        return len(self._waiting)

    @property
    def kept_bytes(self) -> int:
        """Memory of what ended requests left in the KV cache, all of which can be given back."""
        return self._prefixes.kept_bytes

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
        if len(self._waiting) >= self._queue_requests:
            reason = f"{len(self._waiting)} requests are waiting, the limit"
            raise Overloaded(reason, _FULL_RETRY_S)
        self._waiting.append((prepared, Clock(submitted_s=self._clock())))
        return Accepted(prompt_tokens=len(prepared.prompt))

    def cancel(self, request_id: str) -> None:
        """Stop working on a request, if it is here: its slot is free before the next step."""
        for entry in list(self._waiting):
            if entry[0].id == request_id:
                self._waiting.remove(entry)
                self._told.append((request_id, Failed.of(Cancelled())))
        for answer in list(self._running.values()):
            if answer.id == request_id:
                self._release(answer)
                self._told.append((request_id, Failed.of(Cancelled())))

    def step(self) -> list[tuple[str, Event]]:
        """Compute one step; return the events it brought, those of one request in order."""
        told, self._told = self._told, []
        self._admit()
        self._share()
        work = plan(self._slot_states(), pace=self._pace, chunk_tokens=self._chunk_tokens)
        if work:
            work = self._speculation.widen(work, self._offers(work))
            rows = [self._row(item) for item in work]
            began_s = self._clock()
            logits = self._decoder.forward(rows)
            self._learn_pace(work, took_s=self._clock() - began_s)
            told.extend(self._commit(rows, logits))
        return told

    def shrink_prefixes(self, to_bytes: int) -> int:
        """Keep prefixes of at most `to_bytes` from now on; return the bytes that this freed.

        What was configured remains the most that is kept.
        """
        before = self._prefixes.kept_bytes
        self._drop(self._prefixes.limit(to_bytes))
        return before - self._prefixes.kept_bytes

    def close(self) -> None:
        """Forget everything that runs or waits, or is kept."""
        self._waiting.clear()
        for answer in list(self._running.values()):
            self._release(answer)
        self.shrink_prefixes(0)

    def _admit(self) -> None:
        """Give slots to those that wait longest, to each the one that saves it most."""
        while self._waiting and len(self._running) < self.slots:
            prepared, clock = self._waiting.popleft()
            clock.admitted_s = self._clock()
            place = self._prefixes.place(
                np.asarray(prepared.prompt, np.int32),
                offset=self._offset(len(prepared.prompt) + prepared.max_tokens),
            )
            if not place.is_clean:
                self._decoder.arena.release(place.slot, keep_tokens=place.kept_tokens)
            answer = RunningAnswer(
                prepared,
                slot=place.slot,
                vocab=self._decoder.vocab,
                arrival=self._arrivals,
                clock=clock,
            )
            answer.take_over(place.kept_tokens)
            self._running[place.slot] = answer
            self._arrivals += 1

    def _share(self) -> None:
        """Copy to prompts what other slots hold more of, also of requests that came together."""
        for answer in self._running.values():
            copy = self._prefixes.share(answer.slot) if answer.unread else None
            if copy:
                self._decoder.arena.copy(copy.source, copy.target, start=copy.start, stop=copy.stop)
                answer.take_over(copy.stop - copy.start)

    def _slot_states(self) -> list[SlotState]:
        return [
            SlotState(
                slot=slot,
                arrival=answer.arrival,
                unread=answer.unread,
                kin=self._prefixes.kin(slot) if answer.unread else (),
            )
            for slot, answer in self._running.items()
        ]

    def _offers(self, work: Sequence[Work]) -> dict[int, list[float]]:
        """Return by slot the chances of drafts, of every slot that decodes in this step."""
        most, shared = self._speculation.most_drafts, self._speculation.acceptance
        decoding = (self._running[item.slot] for item in work if most)
        return {answer.slot: answer.offer(most, shared) for answer in decoding if not answer.unread}

    def _learn_pace(self, work: tuple[Work, ...], *, took_s: float) -> None:
        read = sum(item.num_tokens for item in work if self._running[item.slot].unread)
        decoded = sum(item.num_tokens for item in work) - read
        self._pace = self._pace.after(decode_tokens=decoded, prompt_tokens=read, took_s=took_s)
        self._speculation.note_step(tokens=read + decoded, has_prompt=read > 0, seconds=took_s)

    def _row(self, item: Work) -> Row:
        answer = self._running[item.slot]
        return Row(
            slot=item.slot,
            past=answer.cached,
            tokens=answer.next_tokens(item.num_tokens),
            # A prompt ends in one row; the newest token and each draft have one of their own.
            num_logits=int(item.num_tokens >= answer.unread) if answer.unread else item.num_tokens,
            position_offset=self._offset(answer.total_tokens),
        )

    def _offset(self, total_tokens: int) -> int:
        """Return where positions begin in the rope tables, for a request of so many tokens.

        The mode is fixed for life: a request that can grow long is long from its start.
        """
        rope = self._decoder.rope
        return rope.long_offset if total_tokens > rope.short_limit else 0

    def _commit(
        self, rows: Sequence[Row], logits: NDArray[np.float32]
    ) -> Iterator[tuple[str, Event]]:
        """Advance every slot that worked; a prompt's end and a decoding row choose tokens."""
        end = 0
        for row in rows:
            start, end = end, end + row.num_logits
            answer = self._running[row.slot]
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
            scores[self._holes] = -np.inf
            token = answer.pick(scores)
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
            self._release(answer)
        return events

    def _release(self, answer: RunningAnswer) -> None:
        del self._running[answer.slot]
        self._drop(self._prefixes.finish(answer.slot))

    def _drop(self, drops: Iterable[Drop]) -> None:
        for drop in drops:
            self._decoder.arena.release(drop.slot, keep_tokens=drop.keep_tokens)

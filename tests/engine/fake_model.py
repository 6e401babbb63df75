"""An engine without a model: every token follows from all tokens that its cache really holds.

A wrong cache, a lost sampler or a doubled token gives another text. Time passes as steps cost it.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engine import loading
from edge_agent.engine.answer import Prepared
from edge_agent.engine.engine import Engine
from edge_agent.engine.laps import Laps
from edge_agent.messages import Priority, Sampling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

    from edge_agent.engine.batch import Row

VOCAB = 24
END = 0
TOKEN_BYTES = 10
CONTEXT = 96


class FakeArena:
    """Which tokens every slot's cache holds."""

    def __init__(self, slots: int) -> None:
        self.cells: list[list[int]] = [[] for _ in range(slots)]

    def bytes_of(self, tokens: int) -> int:
        return tokens * TOKEN_BYTES

    @property
    def used_bytes(self) -> int:
        return sum(self.bytes_of(len(cells)) for cells in self.cells)

    def copy(self, source: int, target: int, *, start: int, stop: int) -> None:
        assert len(self.cells[target]) >= start
        self.cells[target][start:] = self.cells[source][start:stop]

    def release(self, slot: int, *, keep_tokens: int = 0) -> None:
        assert len(self.cells[slot]) >= keep_tokens
        del self.cells[slot][keep_tokens:]


@dataclass
class Clock:
    """Stands still until something is computed."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class Costs:
    """Seconds of a step: for all its rows, for each that decodes, for each token of a prompt."""

    step_s: float = 0.06
    row_s: float = 0.02
    token_s: float = 0.02


@dataclass
class FakeDecoder:
    """Computes logits from the cells of a slot, and takes the time that this costs."""

    slots: int
    clock: Clock
    costs: Costs
    vocab: int = VOCAB
    rope: Any = field(default_factory=lambda: SimpleNamespace(long_offset=0, short_limit=CONTEXT))
    computed: int = 0
    laps: Laps = field(default_factory=Laps)
    steps: list[tuple[int, int]] = field(default_factory=list)
    """Rows that decoded, and other tokens, of every step."""

    def __post_init__(self) -> None:
        self.arena = FakeArena(self.slots)

    def forward(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        logits = []
        assert len({row.slot for row in rows}) == len(rows)
        for row in rows:
            cells = self.arena.cells[row.slot]
            assert len(cells) >= row.past
            cells[row.past :] = row.tokens
            assert len(cells) <= CONTEXT
            firsts = range(len(cells) - row.num_logits + 1, len(cells) + 1)
            logits += [logits_after(cells[:count]) for count in firsts]
        decoded = sum(row.num_logits == len(row.tokens) for row in rows)
        read = sum(len(row.tokens) for row in rows) - decoded
        self.steps.append((decoded, read))
        self.computed += decoded + read
        costs = self.costs
        self.clock.now_s += bool(decoded) * costs.step_s + decoded * costs.row_s
        self.clock.now_s += read * costs.token_s
        return np.array(logits, np.float32).reshape(len(logits), VOCAB)


def logits_after(tokens: Sequence[int]) -> NDArray[np.float32]:
    """Return logits float32 [VOCAB] that any change of `tokens` changes; END is unlikely."""
    seed = zlib.crc32(np.asarray(tokens, np.int32).tobytes())
    logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32)
    logits[END] -= 4
    return logits


def fake_engine(  # noqa: PLR0913  # each is a knob
    patch: pytest.MonkeyPatch,
    package: Path,
    *,
    slots: int = 2,
    chunk_tokens: int = 16,
    queue_requests: int = 99,
    prefix_bytes: int | None = None,
    ageing_s: float = 60.0,
    draft_tokens: int = 0,
    costs: Costs | None = None,
) -> tuple[Engine, FakeDecoder, Clock]:
    """Return an engine whose model is a function of tokens, that function, and its clock."""
    clock = Clock()
    made: list[FakeDecoder] = []

    def decoder(*_: object, slots: int, **__: object) -> FakeDecoder:
        made.append(FakeDecoder(slots, clock, costs or Costs()))
        return made[-1]

    tokenizer = SimpleNamespace(holes=lambda _vocab: [], bytes_of=lambda t: bytes([ord("A") + t]))
    manifest = SimpleNamespace(
        name="fake", context=CONTEXT, shape=SimpleNamespace(vocab=VOCAB), kv_scales=None
    )
    patch.setattr(loading, "Decoder", decoder)
    patch.setattr(loading, "read_manifest", lambda _package: manifest)
    patch.setattr(
        loading,
        "Preparer",
        lambda *_, **__: SimpleNamespace(stop_ids=frozenset([END]), tokenizer=tokenizer),
    )
    engine = Engine(
        package,
        slots=slots,
        context=CONTEXT,
        chunk_tokens=chunk_tokens,
        threads=1,
        queue_requests=queue_requests,
        prefix_bytes=prefix_bytes,
        ageing_s=ageing_s,
        draft_tokens=draft_tokens,
        clock=clock,
    )
    return engine, made[0], clock


def prepared(  # noqa: PLR0913  # each is a field
    name: str,
    prompt: Sequence[int],
    *,
    max_tokens: int = 8,
    temperature: float = 0.0,
    priority: Priority = Priority.NORMAL,
    client: str = "",
    deadline_s: float | None = None,
) -> Prepared:
    """Return a request for the engine."""
    return Prepared(
        id=name,
        prompt=list(prompt),
        max_tokens=min(max_tokens, CONTEXT - len(prompt)),
        stop=(),
        stop_ids={END},
        sampling=Sampling(
            temperature=temperature, top_k=0, top_p=1, min_p=0, repetition_penalty=1.1,
            presence_penalty=0, frequency_penalty=0.2, seed=7,
        ),
        priority=priority,
        client=client,
        deadline_s=deadline_s,
    )  # fmt: skip

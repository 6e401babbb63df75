"""An engine without a model: drafts change no answer, whatever comes true, ends or is cancelled.

The next token follows from all tokens before it, so a cache that holds a wrong one shows.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.engine import loading
from edge_agent.engine.adjustments import Late
from edge_agent.engine.answer import Prepared
from edge_agent.engine.engine import Engine
from edge_agent.engine.laps import Laps
from edge_agent.engine.logprobs import Asked
from edge_agent.messages import Delta, Done, Failed, Sampling, Timings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edge_agent.engine.batch import Row
    from edge_agent.messages import Event

VOCAB = 8
HOLE = VOCAB - 1
CONTEXT = 256
CHUNK = 16


@dataclass
class Arena:
    """Counts tokens as bytes."""

    def bytes_of(self, tokens: int) -> int:
        return tokens

    def release(self, slot: int, *, keep_tokens: int = 0) -> None:
        """Nothing: what is forgotten is overwritten."""

    def copy(self, source: int, target: int, *, start: int, stop: int) -> None:
        raise NotImplementedError


@dataclass
class TinyDecoder:
    """Holds the tokens themselves instead of keys and values."""

    slots: int
    arena: Arena = field(default_factory=Arena)
    rope: Any = field(default_factory=lambda: SimpleNamespace(long_offset=0, short_limit=1 << 30))
    vocab: int = VOCAB
    widest: int = 0
    laps: Laps = field(default_factory=Laps)

    def __post_init__(self) -> None:
        self.cache = np.full((self.slots, CONTEXT + CHUNK), -1)

    def forward(self, rows: Sequence[Row]) -> np.ndarray[Any, np.dtype[np.float32]]:
        logits = []
        for row in rows:
            end = row.past + len(row.tokens)
            assert end <= CONTEXT
            self.cache[row.slot, row.past : end] = row.tokens
            firsts = range(end - row.num_logits + 1, end + 1)
            logits += [logits_after(self.cache[row.slot, :count]) for count in firsts]
            if row.num_logits > 1:
                self.widest = max(self.widest, row.num_logits)
        return np.array(logits, np.float32).reshape(-1, VOCAB)


def logits_after(tokens: np.ndarray[Any, Any]) -> list[float]:
    """Return logits that hang on the last three tokens most, and on every token a little."""
    assert (tokens >= 0).all()
    near = np.random.Generator(np.random.Philox(int(tokens[-3:] @ [1, 8, 64][: len(tokens[-3:])])))
    far = np.random.Generator(np.random.Philox(int(np.arange(1, len(tokens) + 1) @ tokens)))
    scores: list[float] = (4 * near.random(VOCAB) + 0.5 * far.random(VOCAB)).tolist()
    scores[HOLE] = 100.0
    return scores


def engine(*, draft_tokens: int, slots: int = 1, step_s: Iterator[float] | None = None) -> Engine:
    """Return an engine whose steps take `step_s`; by default all alike, so drafts always pay."""
    tokenizer = SimpleNamespace(holes=lambda vocab: [HOLE], bytes_of=lambda token: b"%d" % token)
    preparer = SimpleNamespace(stop_ids=frozenset(), tokenizer=tokenizer)
    manifest = SimpleNamespace(name="tiny", context=CONTEXT, shape=SimpleNamespace(vocab=VOCAB))
    with patch.multiple(
        loading,
        read_manifest=lambda package: manifest,
        Preparer=lambda *args, **options: preparer,
        Decoder=lambda *args, slots, **options: TinyDecoder(slots),
    ):
        return Engine(
            Path("tiny"), slots=slots, context=CONTEXT, chunk_tokens=CHUNK, threads=1,
            queue_requests=8, prefix_bytes=0, draft_tokens=draft_tokens,
            clock=itertools.accumulate(step_s or itertools.repeat(0.001)).__next__,
        )  # fmt: skip


def run(engine: Engine, *asked: Prepared) -> dict[str, list[Event]]:
    for prepared in asked:
        engine.submit(prepared)
    told: dict[str, list[Event]] = {}
    while engine.busy:
        for name, event in engine.step():
            told.setdefault(name, []).append(timeless(event))
    return told


def timeless(event: Event) -> Event:
    if not isinstance(event, Done):
        return event
    none = Timings(queue_s=0, prefill_s=0, decode_s=0)
    return Done(finish_reason=event.finish_reason, usage=event.usage, timings=none, stop=event.stop)


def asked(name: str, prompt: Sequence[int], **options: Any) -> Prepared:
    given = {"max_tokens": 40, "stop": (), "stop_ids": (), "sampling": Sampling(temperature=0)}
    return Prepared(id=name, prompt=prompt, **{**given, **options})


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.8]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
    frequency_penalty=st.sampled_from([0.0, 0.4]),
    seed=st.integers(0, 99),
)
REQUESTS = st.fixed_dictionaries(
    {
        "prompt": st.lists(st.integers(0, VOCAB - 2), min_size=1, max_size=60),
        "sampling": SAMPLINGS,
        "max_tokens": st.integers(1, 60),
        "stop": st.sampled_from([(), ("11",), ("345", "20")]),
        "stop_ids": st.sampled_from([(), (6,)]),
        "late": st.sampled_from([None, Late(ids=(6,), min_tokens=9)]),
        "logprobs": st.sampled_from(
            [None, Asked(num_top=2, spell=lambda token: (str(token), b"%d" % token))]
        ),
    }
)


@given(
    st.lists(REQUESTS, min_size=1, max_size=4),
    st.integers(1, 7),
    st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=9),
)
@settings(deadline=None)
def test_answers_are_the_same_with_drafts_and_without(
    requests: list[dict[str, Any]], draft_tokens: int, times: list[float]
) -> None:
    prepared = [asked(str(number), **request) for number, request in enumerate(requests)]
    plain = run(engine(draft_tokens=0, slots=3), *prepared)
    drafting = engine(draft_tokens=draft_tokens, slots=3, step_s=itertools.cycle(times))

    assert run(drafting, *prepared) == plain
    assert drafting._speculation.accepted <= drafting._speculation.drafted


def test_what_repeats_comes_in_fewer_steps() -> None:
    drafting = engine(draft_tokens=7)
    [told] = run(drafting, asked("a", [1, 2, 3] * 8, bias={3: 50.0}, max_tokens=60)).values()

    assert len(told) == 61
    assert drafting._decoder.widest == 8  # type: ignore[attr-defined]  # the tiny one
    assert drafting._speculation.accepted > 40


def test_nothing_is_drafted_where_drafts_are_off() -> None:
    plain = engine(draft_tokens=0)
    run(plain, asked("a", [1, 2, 3] * 8, bias={3: 50.0}))

    assert plain._decoder.widest == plain._speculation.drafted == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("max_tokens", range(1, 12))
def test_no_token_comes_after_the_last_one(max_tokens: int) -> None:
    drafting = engine(draft_tokens=7)
    [told] = run(drafting, asked("a", [1, 2] * 9, bias={2: 50.0}, max_tokens=max_tokens)).values()
    done = told[-1]

    assert isinstance(done, Done)
    assert done.usage.completion_tokens == max_tokens
    assert "".join(event.text for event in told if isinstance(event, Delta)) == "2" * max_tokens


def test_the_slot_holds_accepted_tokens_only() -> None:
    drafting = engine(draft_tokens=7)
    prepared = asked("a", [1, 2, 3, 1, 2, 3, 4, 1, 2], max_tokens=50)
    drafting.submit(prepared)
    text = ""
    for _ in range(12):
        told = drafting.step()
        text += "".join(event.text for _, event in told if isinstance(event, Delta))
        [answer] = drafting._slots.running.values()
        known = [*prepared.prompt, *map(int, text)]
        # All but the newest token, which the next step computes.
        assert drafting._prefixes.held(answer.slot).tolist() == known[:-1]
        assert answer.cached == len(known) - 1


def test_a_request_that_is_cancelled_between_steps_tells_nothing_more() -> None:
    drafting = engine(draft_tokens=7)
    drafting.submit(asked("a", [1, 2] * 9, bias={2: 50.0}))
    for _ in range(4):
        drafting.step()
    drafting.cancel("a")

    [(_, event)] = drafting.step()
    assert isinstance(event, Failed)
    assert not drafting.busy


DRAWS = 4000
# The mark that one in ten thousand fair experiments exceeds, in standard deviations.
UNLIKELY = 3.72


def test_drawn_tokens_keep_the_distribution_of_the_model() -> None:
    prompt = [0, 1, 2, 3, 4, 5, 6, 0, 3, 6, 2]
    drafting = engine(draft_tokens=3)
    counts: Counter[tuple[int, int]] = Counter()
    for seed in range(DRAWS):
        sampling = Sampling(temperature=1.0, seed=seed)
        [told] = run(drafting, asked("a", prompt, sampling=sampling, max_tokens=3)).values()
        text = "".join(event.text for event in told if isinstance(event, Delta))
        counts[int(text[1]), int(text[2])] += 1
    first = softmax(logits_after(np.array(prompt)))
    expected: defaultdict[tuple[int, int], float] = defaultdict(float)
    for one, two, three in itertools.product(range(VOCAB - 1), repeat=3):
        second = softmax(logits_after(np.array([*prompt, one])))
        third = softmax(logits_after(np.array([*prompt, one, two])))
        expected[two, three] += DRAWS * first[one] * second[two] * third[three]

    # Some drafts came true and some did not: both ways lead to tokens that are counted.
    assert 0.1 < drafting._speculation.accepted / drafting._speculation.drafted < 0.9
    assert min(expected.values()) > 5
    chi_square = sum((counts[pair] - mean) ** 2 / mean for pair, mean in expected.items())
    freedom = len(expected) - 1
    # Wilson and Hilferty 1931: the cube root of chi-square over its freedom is nearly normal.
    spread = 2 / (9 * freedom)
    assert ((chi_square / freedom) ** (1 / 3) - (1 - spread)) / spread**0.5 < UNLIKELY


def softmax(logits: list[float]) -> list[float]:
    weights = np.exp(np.array(logits[:HOLE]))
    chances: list[float] = (weights / weights.sum()).tolist()
    return chances

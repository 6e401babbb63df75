"""What a race is judged by: ratios of figures of one run, and whether they are met. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from tests.bench import names
from tests.bench.results import Key, Ratio, Series, ratio
from tests.bench.workloads import Workload

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One figure over another, and what it should be."""

    what: str
    of: Key
    over: tuple[Key, ...] = ()
    """The best of these counts: the highest. Empty: `of` itself is judged, by its median."""
    sense: Literal["at least", "at most"] = "at least"
    bound: float


class Verdict(StrEnum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A target and what was measured for it."""

    target: Target
    verdict: Verdict
    measured: Ratio | None = None
    over: str | None = None
    """Whom the ratio is to."""

    @property
    def is_close(self) -> bool:
        """Whether single rounds say otherwise than the medians: then it is no clear result."""
        return self.measured is not None and (
            self.measured.lowest < self.target.bound < self.measured.highest
        )


def judge(target: Target, figures: Mapping[Key, Series]) -> Judged:
    """Return whether `target` is met by `figures`."""
    of = figures.get(target.of)
    found = [(key, figures[key]) for key in target.over if key in figures]
    if of is None or (target.over and not found):
        return Judged(target=target, verdict=Verdict.NOT_RUN)
    if not target.over:
        measured, over = Ratio(of.median, of.lowest, of.highest), None
    else:
        key, best = max(found, key=lambda pair: pair[1].median)
        measured, over = ratio(of, best), key.contestant
    is_met = (
        measured.of_medians >= target.bound
        if target.sense == "at least"
        else measured.of_medians <= target.bound
    )
    verdict = Verdict.MET if is_met else Verdict.MISSED
    return Judged(target=target, verdict=verdict, measured=measured, over=over)


def _speed(lap: str, bounds: Sequence[tuple[str, float]]) -> list[Target]:
    """Return the targets of our speed in `lap` over that of each peer."""
    return [
        Target(
            what=f"{lap} over {peer}",
            of=Key(lap, names.OURS, "tok_s"),
            over=(Key(lap, peer, "tok_s"),),
            bound=bound,
        )
        for peer, bound in bounds
    ]


def _anonymous(peer: str, bound: float) -> Target:
    figure = "loaded_rss_anon_mb"
    return Target(
        what=f"anonymous memory after load, of {peer}'s",
        of=Key(names.MEMORY, names.OURS, figure),
        over=(Key(names.MEMORY, peer, figure),),
        sense="at most",
        bound=bound,
    )


# Bounds were set before anything was tuned, from what the peers do on two cores with AVX-512 VNNI:
# llama.cpp as users have it reads prompts slower and lacks blocks of 128, onnxruntime-genai runs
# the same kernels as we do, and a batched step costs what MatMulNBits makes of more rows.
TARGETS = (
    *(
        target
        for tokens in (128, 512)
        for target in _speed(
            names.prefill(tokens), [(names.LLAMA_Q4_0, 1.4), (names.GENAI_128, 1.05)]
        )
    ),
    *_speed(
        names.decode(128),
        [
            (names.LLAMA_Q4_0, 1.2),
            (names.LLAMA_Q4_K_M, 1.2),
            (names.LLAMA_Q4_0_PURE, 1.05),
            (names.GENAI_128, 1.0),
            (names.GENAI_32, 1.2),
        ],
    ),
    Target(
        what="decode at 128, share of the memory bandwidth",
        of=Key(names.share(128), names.OURS, "share"),
        bound=0.9,
    ),
    Target(
        what="decode at 4,096 over llama.cpp with its best cache",
        of=Key(names.decode(4096), names.OURS, "tok_s"),
        over=tuple(
            Key(names.decode(4096), peer, "tok_s") for peer in (names.LLAMA_Q4_0, names.LLAMA_Q8_KV)
        ),
        bound=1.1,
    ),
    Target(
        what="4 streams over 1 of our own",
        of=Key(names.streams(4), names.OURS, "tok_s"),
        over=(Key(names.streams(1), names.OURS, "tok_s"),),
        bound=2.3,
    ),
    *(
        target
        for count, bound in ((2, 1.4), (4, 1.05), (8, 1.25))
        for target in _speed(names.streams(count), [(names.LLAMA_Q4_0, bound)])
    ),
    Target(
        what="pace that an answer keeps beside a prompt",
        of=Key(names.PACE, names.OURS, "kept_pace"),
        bound=0.5,
    ),
    Target(
        what="idle daemon with a loaded model, % of a core",
        of=Key(names.IDLE, names.DAEMON, "cpu_percent"),
        sense="at most",
        bound=0.5,
    ),
    Target(
        what="SmolLM2, 4 streams over vLLM",
        of=Key(names.SMOLLM2_STREAMS, names.DAEMON, "tok_s"),
        over=(Key(names.SMOLLM2_STREAMS, names.VLLM, "tok_s"),),
        bound=1.3,
    ),
    Target(
        what="SmolLM2 decode over onnxruntime-genai, both 4 bits",
        of=Key(names.SMOLLM2_DECODE, names.INT4_PLAIN, "tok_s"),
        over=(Key(names.SMOLLM2_DECODE, names.SMOLLM2_GENAI, "tok_s"),),
        bound=1.0,
    ),
    Target(
        what="first token behind 1,000 known, of the same cold",
        of=Key(names.TTFT, names.OURS, "warm_s"),
        over=(Key(names.TTFT, names.OURS, "cold_s"),),
        sense="at most",
        bound=0.05,
    ),
    *(
        Target(
            what=f"{names.drafts(workload)}, {drafts} over none",
            of=Key(names.drafts(workload), drafts, "tok_s"),
            over=(Key(names.drafts(workload), plain, "tok_s"),),
            bound=bound,
        )
        for plain, drafts in (
            (names.SHIPPED_PLAIN, names.SHIPPED_DRAFTS),
            (names.INT4_PLAIN, names.INT4_DRAFTS),
        )
        for workload, bound in (
            (Workload.EXTRACTION, 1.8),
            (Workload.JSON_ECHO, 1.8),
            (Workload.FREE, 0.97),
        )
    ),
    Target(
        what="perplexity with an int8 cache, of that with fp32",
        of=Key(names.PERPLEXITY, names.OURS_INT8_KV, "perplexity"),
        over=(Key(names.PERPLEXITY, names.OURS, "perplexity"),),
        sense="at most",
        bound=1.005,
    ),
    _anonymous(names.LLAMA_Q4_0, 0.2),
    _anonymous(names.GENAI_128, 0.15),
    Target(
        what="anonymous memory at 32,768 tokens, int8 cache, MB",
        of=Key(names.MEMORY_LONG, names.OURS_INT8_KV, "read_rss_anon_mb"),
        sense="at most",
        bound=2600,
    ),
)

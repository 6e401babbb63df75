"""The course: which laps are run at which lengths, by whom, and which of them take turns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edge_agent import config
from edge_agent.cli.share import STEPS
from tests.bench import names
from tests.bench.contestant import Contestant, Heat, Lap
from tests.bench.runners.task import Task
from tests.bench.workloads import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from tests.bench.field import Field

# One size for all shorter prompts, so that they share a process.
_SHORT_CONTEXT = 2560
_ROOM_TOKENS = 512
# From there on a cache of fp32 would be larger than the weights twice, and a round takes an hour.
_LARGE_TOKENS = 16_384
_MEMORY_CONTEXT = 1024
_QUESTION_TOKENS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How long everything is, in tokens."""

    prompts: tuple[int, ...] = (128, 512)
    """At which the reading of prompts is timed."""
    depths: tuple[int, ...] = (128,)
    """Behind which decoding is timed."""
    shallow_tokens: int = 128
    """Up to this depth everybody decodes; deeper, who has a smaller cache does so besides."""
    new_tokens: int = 32
    streams: tuple[int, ...] = (1, 2, 4, 8)
    stream_tokens: int = 128
    """The prompt of each stream."""
    system_tokens: int = 1000
    """What prompts of the first-token lap have in common."""
    memory_tokens: int = 512
    long_memory_tokens: int | None = None
    small_new_tokens: int = 128
    rest_s: float = 30
    """Of the idle daemon."""
    draft_new_tokens: int = 160
    """Of each answer of a workload at most."""
    perplexity_tokens: int = 10_240
    has_all_peers: bool = True
    """Whether the variants of a peer race too, which users rarely have."""
    first_id: int = 1000
    num_ids: int = 16_000
    """Of made-up prompts; see `Task`."""


COURSES = {
    # Whether everybody runs at all; its speeds mean nothing.
    "try": Course(
        prompts=(32,),
        depths=(32, 64),
        shallow_tokens=32,
        new_tokens=4,
        streams=(1, 2),
        stream_tokens=32,
        system_tokens=64,
        memory_tokens=32,
        long_memory_tokens=64,
        small_new_tokens=8,
        rest_s=1,
        draft_new_tokens=4,
        perplexity_tokens=1024,
    ),
    "quick": Course(has_all_peers=False, streams=(1, 4), perplexity_tokens=4096),
    "full": Course(prompts=(128, 512, 2048, 4096), depths=(128, 2048, 4096)),
    "long": Course(
        prompts=(128, 512, 2048, 4096, 8192, 32_768),
        depths=(128, 2048, 4096),
        long_memory_tokens=32_000,
    ),
}


def heats(course: Course, field: Field, only: Collection[str] = ()) -> Iterator[Heat]:
    """Yield the heats of the sections in `only`, or of all; heats nobody can run are left out."""
    for section, make in SECTIONS.items():
        if only and section not in only:
            continue
        for heat in make(course, field):
            laps = tuple(_with_ids(lap, course) for lap in heat.laps if lap.contestants)
            if laps:
                yield replace(heat, section=section, laps=laps)


def _with_ids(lap: Lap, course: Course) -> Lap:
    return replace(lap, task=replace(lap.task, first_id=course.first_id, num_ids=course.num_ids))


def _heat(*laps: Lap, most_rounds: int | None = None) -> Heat:
    return Heat(section="", laps=laps, most_rounds=most_rounds)


def _lap(name: str, task: Task, *contestants: list[Contestant], is_fresh: bool = False) -> Lap:
    """Return the lap of those who are there."""
    present = tuple(each for found in contestants for each in found)
    return Lap(name=name, task=task, contestants=present, is_fresh=is_fresh)


def _context(tokens: int) -> int:
    """Return the room that a slot is given for so many tokens."""
    return max(_SHORT_CONTEXT, tokens + _ROOM_TOKENS)


def _prefill(course: Course, field: Field) -> Iterator[Heat]:
    for tokens in course.prompts:
        context = _context(tokens)
        is_large = tokens >= _LARGE_TOKENS
        kv_dtype = "fp16" if is_large else "fp32"
        peers = [field.llama(names.LLAMA_Q4_0, context=context)]
        peers.append(field.genai(names.GENAI_128, context=context))
        if course.has_all_peers and tokens <= max(COURSES["quick"].prompts):
            peers.append(field.llama(names.LLAMA_Q4_0_PURE, context=context))
            peers.append(field.genai(names.GENAI_32, context=context))
        # About 512 tokens a turn: what takes two seconds only is repeated.
        task = Task(kind="prefill", tokens=tokens, reps=max(1, min(4, 512 // tokens)))
        ours = field.ours(context=context, kv_dtype=kv_dtype)
        lap = _lap(names.prefill(tokens), task, ours, *peers)
        yield _heat(lap, most_rounds=1 if is_large else None)


def _decode(course: Course, field: Field) -> Iterator[Heat]:
    """Yield a heat for each depth: who keeps a prompt then reads it in the first round only."""
    for depth in course.depths:
        context = _context(depth + max(course.new_tokens, STEPS))
        laps = []
        peers = [field.llama(names.LLAMA_Q4_0, context=context)]
        peers.append(field.genai(names.GENAI_128, context=context))
        if depth <= course.shallow_tokens:
            share = Task(kind="share", tokens=depth, new_tokens=STEPS)
            laps.append(_lap(names.share(depth), share, field.ours(context=context)))
            if course.has_all_peers:
                peers.append(field.llama(names.LLAMA_Q4_0_PURE, context=context))
                peers.append(field.llama(names.LLAMA_Q4_K_M, context=context))
                peers.append(field.genai(names.GENAI_32, context=context))
        else:
            quantized = field.llama(names.LLAMA_Q8_KV, context=context, kv_dtype="q8_0")
            peers.append(quantized)
        task = Task(kind="decode", tokens=depth, new_tokens=course.new_tokens, reps=2)
        laps.append(_lap(names.decode(depth), task, field.ours(context=context), *peers))
        yield _heat(*laps)


def _streams(course: Course, field: Field) -> Iterator[Heat]:
    """Yield one heat of all numbers of streams, as they are compared with each other."""
    laps = []
    for count in course.streams:
        task = Task(
            kind="streams",
            tokens=course.stream_tokens,
            new_tokens=course.new_tokens,
            streams=count,
        )
        ours = field.ours(context=_SHORT_CONTEXT, slots=count)
        llama = field.llama(names.LLAMA_Q4_0, context=_SHORT_CONTEXT, slots=count)
        laps.append(_lap(names.streams(count), task, ours, llama))
    yield _heat(*laps)


def _ttft(course: Course, field: Field) -> Iterator[Heat]:
    task = Task(kind="ttft", tokens=course.system_tokens, tail=_QUESTION_TOKENS)
    ours = field.ours(context=_SHORT_CONTEXT)
    llama = field.llama(names.LLAMA_Q4_0, context=_SHORT_CONTEXT)
    yield _heat(_lap(names.TTFT, task, ours, llama))


def _pace(course: Course, field: Field) -> Iterator[Heat]:
    task = Task(
        kind="pace",
        tokens=course.system_tokens,
        tail=course.stream_tokens,
        new_tokens=course.new_tokens,
    )
    kept_pace = config.Engine().kept_pace
    ours = field.ours(context=_SHORT_CONTEXT, slots=2, kept_pace=kept_pace)
    yield _heat(_lap(names.PACE, task, ours))


def _idle(course: Course, field: Field) -> Iterator[Heat]:
    slots = 4  # as the streams have them: they share the process
    task = Task(kind="idle", tokens=course.stream_tokens, rest_s=course.rest_s)
    yield _heat(_lap(names.IDLE, task, field.daemon(names.DAEMON, names.SHIPPED, slots=slots)))


def _memory(course: Course, field: Field) -> Iterator[Heat]:
    yield _heat(
        _lap(
            names.MEMORY,
            Task(kind="memory", tokens=course.memory_tokens),
            field.ours(context=_MEMORY_CONTEXT),
            field.llama(names.LLAMA_Q4_0, context=_MEMORY_CONTEXT),
            field.genai(names.GENAI_128, context=_MEMORY_CONTEXT),
            is_fresh=True,
        )
    )
    if (tokens := course.long_memory_tokens) is not None:
        task = Task(kind="memory", tokens=tokens)
        ours = field.ours(context=_context(tokens), kv_dtype="int8", name=names.OURS_INT8_KV)
        yield _heat(_lap(names.MEMORY_LONG, task, ours, is_fresh=True), most_rounds=1)


def _drafts(course: Course, field: Field) -> Iterator[Heat]:
    """Yield a heat for each workload: with drafts, as configured by default, and without."""
    drafts = config.Engine().draft_tokens
    found = [
        (names.SHIPPED_PLAIN, names.SHIPPED, 0),
        (names.SHIPPED_DRAFTS, names.SHIPPED, drafts),
        (names.INT4_PLAIN, names.INT4, 0),
        (names.INT4_DRAFTS, names.INT4, drafts),
    ]
    contestants = [
        field.small(name, package, context=_SHORT_CONTEXT, draft_tokens=most)
        for name, package, most in found
    ]
    for workload in Workload:
        task = Task(kind="answers", workload=workload, new_tokens=course.draft_new_tokens)
        yield _heat(_lap(names.drafts(workload), task, *contestants))


def _kv(course: Course, field: Field) -> Iterator[Heat]:
    task = Task(kind="perplexity", tokens=course.perplexity_tokens)
    floats = field.perplexity(names.OURS, kv_dtype="fp32")
    int8 = field.perplexity(names.OURS_INT8_KV, kv_dtype="int8")
    # The same text gives the same figure.
    yield _heat(_lap(names.PERPLEXITY, task, floats, int8), most_rounds=1)


def _smollm2(course: Course, field: Field) -> Iterator[Heat]:
    decode = Task(kind="decode", tokens=128, new_tokens=course.small_new_tokens, reps=3)
    ours = field.small(names.INT4_PLAIN, names.INT4, context=_SHORT_CONTEXT)
    genai = field.genai(names.SMOLLM2_GENAI, context=_SHORT_CONTEXT)
    yield _heat(_lap(names.SMOLLM2_DECODE, decode, ours, genai))
    slots = 4
    streams = Task(kind="streams", tokens=128, new_tokens=course.small_new_tokens, streams=slots)
    shipped = field.daemon(names.DAEMON, names.SHIPPED, slots=slots)
    int4 = field.daemon(names.DAEMON_INT4, names.INT4, slots=slots)
    yield _heat(_lap(names.SMOLLM2_STREAMS, streams, shipped, int4, field.vllm(slots=slots)))


SECTIONS: dict[str, Callable[[Course, Field], Iterator[Heat]]] = {
    "prefill": _prefill,
    "decode": _decode,
    "streams": _streams,
    "ttft": _ttft,
    "pace": _pace,
    "memory": _memory,
    "drafts": _drafts,
    "kv": _kv,
    "smollm2": _smollm2,
    "idle": _idle,
}

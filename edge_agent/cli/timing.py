"""Times the engine in this very process, so that the memory figures are those of an engine process.

Prompts are made-up token ids and answers never stop early: only time and memory mean anything here.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.cli.hop import Hop
from edge_agent.cli.share import STEPS, measure_share, step_gb
from edge_agent.engine.answer import Prepared
from edge_agent.engine.engine import Engine
from edge_agent.engine.laps import Stage
from edge_agent.messages import Sampling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edge_agent.cli.bandwidth import Share

# The first steps pay for buffers that all others reuse.
_WARM_UP_TOKENS = 16
# Ids below are bytes, above may be control tokens, in every vocabulary there is.
_FIRST_ID, _IDS = 1000, 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to time."""

    prompts: tuple[int, ...]
    """Lengths at which prefill is timed."""
    streams: tuple[int, ...]
    """Numbers of answers at once for which decode is timed."""
    depth: int
    """Tokens of prompt before decode is timed."""
    tokens: int
    """Tokens of each answer that are timed."""
    reps: int
    """Repeats, of which the median counts."""
    threads: int
    chunk_tokens: int
    """Prompt tokens computed in one step."""
    kv_dtype: str

    @property
    def answer_tokens(self) -> int:
        """Tokens after which an answer may end: while later prompts are read, it goes on."""
        chunks = -(-self.depth // self.chunk_tokens)
        return max(self.tokens, STEPS) + max(self.streams) * chunks + 1

    @property
    def context(self) -> int:
        """Tokens that a slot must have room for."""
        return max(*self.prompts, self.depth + self.answer_tokens) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """What steps took in which `streams` answers decode together."""

    streams: int
    per_s: float
    stages_s: dict[str, float]
    """Seconds of a step by stage (`engine.laps`), and `hop`: the way of its events to the daemon,
    which a step of the daemon's engine takes besides."""

    @property
    def tok_s(self) -> float:
        """Tokens per second of all answers together."""
        return self.streams * self.per_s


def measure(package: Path, task: Task) -> dict[str, Any]:
    """Load `package` and return the figures, each with its unit in its name."""
    began_s = time.perf_counter()
    engine = Engine(
        package,
        slots=max(task.streams),
        context=task.context,
        chunk_tokens=task.chunk_tokens,
        threads=task.threads,
        queue_requests=max(task.streams),
        kv_dtype=task.kv_dtype,
        prefix_bytes=0,  # every repeat reads the same prompt
        kept_pace=0,  # no answer shall be far on when the last one begins
    )
    load_s = time.perf_counter() - began_s
    loaded = memory_mb()
    first_s = _prefill_s(engine, _WARM_UP_TOKENS)
    prefill_s = {n: _median(task.reps, partial(_prefill_s, engine, n)) for n in task.prompts}
    decode = {n: _decode(engine, task, n) for n in task.streams}
    figures = {
        "model": engine.name,
        "threads": task.threads,
        "kv_dtype": task.kv_dtype,
        "load_s": round(load_s, 2),
        "loaded_rss_anon_mb": loaded["rss_anon_mb"],
        f"first_step_{_WARM_UP_TOKENS}_ms": round(first_s * 1000, 1),
        "ttft_ms": round(prefill_s[task.prompts[0]] * 1000, 1),
        "prefill_tok_s": {str(n): round(n / seconds, 1) for n, seconds in prefill_s.items()},
        "decode_tok_s": {str(n): round(steps.tok_s, 1) for n, steps in decode.items()},
        **_stage_figures(decode),
        **memory_mb(),
    }
    # Last: the probe has memory of its own.
    shares = {n: _share(engine, package, task, n) for n in task.streams}
    return {
        **figures,
        "step_weights_gb": round(step_gb(package), 3),
        "read_gb_s": {str(n): round(share.read_gb_s, 1) for n, share in shares.items()},
        "memory_gb_s": {str(n): round(share.memory_gb_s, 1) for n, share in shares.items()},
        "bandwidth_share": {str(n): round(share.share, 2) for n, share in shares.items()},
    }


def _stage_figures(decode: Mapping[int, Steps]) -> dict[str, dict[str, float]]:
    """Return the milliseconds of a step by stage and number of streams, and those not in `run`."""
    parts: dict[str, dict[str, float]] = {}
    for n, steps in decode.items():
        for name, step_s in steps.stages_s.items():
            parts.setdefault(f"step_{name}_ms", {})[str(n)] = round(step_s * 1000, 3)
        outside_s = sum(steps.stages_s.values()) - steps.stages_s[Stage.RUN]
        parts.setdefault("step_outside_ms", {})[str(n)] = round(outside_s * 1000, 3)
    return parts


def memory_mb() -> dict[str, int]:
    """Return this process's memory in megabytes: anonymous, file-backed, and the peak of all."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    fields = {"rss_anon_mb": "RssAnon", "rss_file_mb": "RssFile", "peak_rss_mb": "VmHWM"}
    return {ours: int(status[name].split()[0]) * 1024 // 10**6 for ours, name in fields.items()}


def _median(reps: int, figure: Callable[[], float]) -> float:
    return statistics.median(figure() for _ in range(reps))


def _prefill_s(engine: Engine, prompt_tokens: int) -> float:
    """Return the seconds from a prompt's arrival to its first token."""
    began_s = time.perf_counter()
    engine.submit(_prepared("prefill", _ids(0, prompt_tokens), max_tokens=1))
    _drain(engine)
    return time.perf_counter() - began_s


def _decode(engine: Engine, task: Task, streams: int) -> Steps:
    """Return the median of steps in which `streams` answers decode together."""
    with Hop() as hop:
        runs = [_decode_once(engine, task, streams, hop) for _ in range(task.reps)]
    return Steps(
        streams=streams,
        per_s=statistics.median(run.per_s for run in runs),
        stages_s={
            name: statistics.median(run.stages_s[name] for run in runs) for name in runs[0].stages_s
        },
    )


def _decode_once(engine: Engine, task: Task, streams: int, hop: Hop) -> Steps:
    """Time steps after the first tokens of all answers; what is sent is sent behind the steps."""
    with _decoding(engine, task, streams):
        engine.laps.take()
        began_s = time.perf_counter()
        told = [engine.step() for _ in range(task.tokens)]
        elapsed_s = time.perf_counter() - began_s
        seconds = {str(stage): spent_s for stage, spent_s in engine.laps.take().items()}
        seconds["hop"] = hop.carry(told)
    return Steps(
        streams=streams,
        per_s=task.tokens / elapsed_s,
        stages_s={name: taken_s / task.tokens for name, taken_s in seconds.items()},
    )


def _share(engine: Engine, package: Path, task: Task, streams: int) -> Share:
    """Return the share of the memory bandwidth of steps in which `streams` answers decode."""
    with _decoding(engine, task, streams):
        return measure_share(engine, package, task.kv_dtype)


@contextmanager
def _decoding(engine: Engine, task: Task, streams: int) -> Iterator[None]:
    """Have `streams` answers behind their first tokens; at the end they are gone."""
    names = [f"decode-{i}" for i in range(streams)]
    for i, name in enumerate(names):
        engine.submit(_prepared(name, _ids(i, task.depth), max_tokens=task.answer_tokens))
    while engine.waiting or engine.prefilling:
        engine.step()
    yield
    for name in names:
        engine.cancel(name)
    _drain(engine)


def _ids(seed: int, count: int) -> Sequence[int]:
    return [_FIRST_ID + (seed * 131 + i * 31) % _IDS for i in range(count)]


def _drain(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def _prepared(name: str, prompt: Sequence[int], *, max_tokens: int) -> Prepared:
    return Prepared(
        id=name,
        prompt=prompt,
        max_tokens=max_tokens,
        stop=(),
        stop_ids=(),
        sampling=Sampling(temperature=0),
    )

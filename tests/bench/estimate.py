"""How long a race will take, roughly: so that one fits the time in which a machine is quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.cli.share import STEPS
from tests.bench import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.bench.contestant import Heat, Lap
    from tests.bench.runners.task import Task

# Two cores with the large model: of the slower contestants.
_READ_TOK_S, _STEPS_S = 60.0, 12.0
# SmolLM2 has a thirtieth of the weights, of which each step costs less to set up.
_SMALL_IS_FASTER = 12.0
_SMALL_SECTIONS = frozenset({"drafts", "kv", "smollm2", "idle"})
_LOAD_S = {names.VLLM: 60.0}
_MOST_LOADS_S = 6.0
# Prompts of a workload, and tokens of each.
_WORKLOAD = (6, 250)


def minutes(heats: Iterable[Heat], rounds: int) -> float:
    """Return about how many minutes `heats` take."""
    return sum(_heat_s(heat, min(rounds, heat.most_rounds or rounds)) for heat in heats) / 60


def _heat_s(heat: Heat, rounds: int) -> float:
    faster = _SMALL_IS_FASTER if heat.section in _SMALL_SECTIONS else 1.0
    contestants = {each for lap in heat.laps for each in lap.contestants}
    loads_s = sum(_LOAD_S.get(each.name, _MOST_LOADS_S) for each in contestants)
    return loads_s + sum(_lap_s(lap, faster) for lap in heat.laps) * rounds


def _lap_s(lap: Lap, faster: float) -> float:
    task, number = lap.task, len(lap.contestants)
    read, steps = _work(task)
    once_s = (read / _READ_TOK_S + steps / _STEPS_S) / faster + task.rest_s
    return number * (once_s + (_MOST_LOADS_S if lap.is_fresh else 0.0))


def _work(task: Task) -> tuple[int, int]:
    """Return the tokens that are read and the steps of decoding in one turn."""
    prompts, prompt_tokens = _WORKLOAD
    of_kind = {
        "decode": (task.tokens, task.reps * task.new_tokens),
        "share": (task.tokens, STEPS),
        # A step of four rows takes about twice as long as one of one.
        "streams": (task.streams * task.tokens, 2 * task.new_tokens * (1 + task.streams // 4)),
        "pace": (2 * task.tokens + task.tail, 2 * task.new_tokens),
        "answers": (prompts * prompt_tokens, prompts * task.new_tokens),
    }
    return of_kind.get(task.kind, (task.reps * task.tokens + task.tail, 0))

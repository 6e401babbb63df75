"""Who takes part in a race, and what is run in which order. Plain values: nothing starts here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.runners.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A model in a runner. Equal ones share a process."""

    name: str
    """As targets and tables know it."""
    runner: str
    """Module of `tests.bench.runners`."""
    python: str
    """The interpreter that can import what the runner needs."""
    options_json: str
    """What the runner is started with."""
    memory_bytes: int
    """About what it keeps of its own while loaded; not the files that it maps."""

    @classmethod
    def of(
        cls, name: str, runner: str, *, python: str, memory_bytes: int, **options: Any
    ) -> Contestant:
        """Make one of the runner's `options`."""
        told = json.dumps(options, sort_keys=True)
        return cls(
            name=name, runner=runner, python=python, options_json=told, memory_bytes=memory_bytes
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """One task, and who does it."""

    name: str
    task: Task
    contestants: tuple[Contestant, ...]
    is_fresh: bool = False
    """Whether each is started anew for it: what it did before would be in the figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Laps that are compared with each other: they take turns in every round."""

    section: str
    laps: tuple[Lap, ...]
    most_rounds: int | None = None
    """Where more rounds tell nothing new."""


class Turn(NamedTuple):
    """One contestant's go."""

    round: int
    """From 1."""
    lap: Lap
    contestant: Contestant


def turns(heat: Heat, rounds: int) -> Iterator[Turn]:
    """Yield the turns of a heat, A B A B: the machine's drift meets everybody alike."""
    for number in range(1, min(rounds, heat.most_rounds or rounds) + 1):
        for lap in heat.laps:
            for contestant in lap.contestants:
                yield Turn(number, lap, contestant)


def to_rest(
    loaded: Sequence[Contestant], coming: Contestant, *, room_bytes: int
) -> tuple[Contestant, ...]:
    """Return whom to unload, longest unused first, so that `coming` fits beside the others.

    `loaded` is in the order of last use, the longest unused first.
    """
    leaving: list[Contestant] = []
    staying = sum(each.memory_bytes for each in loaded)
    for each in loaded:
        if staying + coming.memory_bytes <= room_bytes:
            break
        leaving.append(each)
        staying -= each.memory_bytes
    return tuple(leaving)

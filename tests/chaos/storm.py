"""Asks a daemon many things over MQTT while daemon, engine and broker are killed under it.

All chance comes from one seed, which decides prompts, victims, and after how many answers and how
long they die. What the processes do meanwhile is their own: a seed repeats the storm, not the run.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from tests.chaos.patient_client import PatientClient

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping, Sequence

    from tests.broker import LocalBroker
    from tests.chaos.victims import MortalDaemon

NODE = "chaos"
BASE = f"edge/v1/{NODE}"
# Debian's default: sessions are kept on disk, and the disk is written every half hour.
DEBIAN = "persistence true\npersistence_location {directory}/\n"
# More than run at once, so that whoever is killed has work and the journal holds a queue.
WINDOW = 16
# Between an answer and the blow that it sets off: anywhere within an answer, a start, a commit.
LONGEST_AIM_S = 0.6
TICK_S = 0.02

# The harness is what kills: nobody's third crash may count as his own fault. And it does not wait
# for minutes where a real gateway should.
ENVIRON = {
    "EDGE_AGENT_MQTT__NODE": NODE,
    "EDGE_AGENT_ENGINE__MAX_CRASHES": "100",
    "EDGE_AGENT_ENGINE__RESTART_WAIT_LIMIT_S": "1",
    "EDGE_AGENT_DAEMON__LOG_LEVEL": "error",
}


class Victim(Enum):
    """Who dies."""

    DAEMON = auto()
    ENGINE = auto()
    BROKER = auto()


@dataclass(frozen=True, slots=True)
class Blow:
    """A kill: after so many answers, and so long after that."""

    after_answers: int
    aim_s: float
    victim: Victim


@dataclass(frozen=True, slots=True)
class Strength:
    """How much of everything."""

    prompts: int
    daemons: int
    engines: int
    brokers: int
    limit_s: float


def blows(chance: random.Random, strength: Strength) -> list[Blow]:
    """Return the kills of a storm in order; the last answers come in quiet."""
    victims = [
        *[Victim.DAEMON] * strength.daemons,
        *[Victim.ENGINE] * strength.engines,
        *[Victim.BROKER] * strength.brokers,
    ]
    chance.shuffle(victims)
    moments = sorted(chance.randrange(strength.prompts - WINDOW) for _ in victims)
    return [
        Blow(moment, chance.uniform(0, LONGEST_AIM_S), victim)
        for moment, victim in zip(moments, victims, strict=True)
    ]


def rage(
    requests: Mapping[str, dict[str, Any]],
    planned: Sequence[Blow],
    *,
    daemon: MortalDaemon,
    broker: LocalBroker,
    limit_s: float,
) -> PatientClient:
    """Ask `requests`, strike as `planned`; return the client with its history when all is done.

    Raises:
        AssertionError: not everything is answered within `limit_s`.
    """
    left = deque(planned)
    give_up_s = time.monotonic() + limit_s
    aimed_s: float | None = None
    with PatientClient(broker.url, BASE, requests, window=WINDOW) as client:
        while not client.is_done:
            assert time.monotonic() < give_up_s, f"not answered: {client.open}"
            assert daemon.is_alive, "the daemon ended by itself"
            client.tend(wait_s=TICK_S)
            if not left or len(client.finals) < left[0].after_answers:
                continue
            aimed_s = aimed_s or time.monotonic() + left[0].aim_s
            if time.monotonic() >= aimed_s:
                _strike(left.popleft().victim, client, daemon, broker)
                aimed_s = None
    assert not left
    return client


def _strike(
    victim: Victim, client: PatientClient, daemon: MortalDaemon, broker: LocalBroker
) -> None:
    match victim:
        case Victim.DAEMON:
            client.mark_outage()
            daemon.kill_all()
            # Again, for what the broker still had of the dead: the next life begins after this.
            client.mark_outage()
            daemon.start()
        case Victim.ENGINE:
            daemon.kill_engine()
        case Victim.BROKER:
            broker.kill()
            broker.start()

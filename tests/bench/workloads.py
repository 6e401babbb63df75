"""Prompts on which drafts are raced: answers that repeat their prompt, and answers that do not.

Made by arithmetic, so that every run and every engine gets the same ones.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import StrEnum

from edge_agent.messages import Message, Role


class Workload(StrEnum):
    """A kind of prompt that gateways get."""

    EXTRACTION = "extraction"
    """Lines of a log, of which some are to be copied."""
    JSON_ECHO = "json_echo"
    """A JSON document that is to come back with one value changed."""
    FREE = "free"
    """Questions without a text to copy from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request: greedy, at most `max_tokens` tokens, ended earlier by the model alone."""

    messages: tuple[Message, ...]
    max_tokens: int


PLACES = ("boiler room", "cold store", "loading dock", "pump house", "roof", "server room")
DEVICES = ("pump", "valve", "freezer", "compressor", "meter", "fan")
EVENTS = (
    "INFO connected to broker",
    "WARNING retained message too large, dropped",
    "ERROR no answer on the field bus, giving up after 3 attempts",
    "INFO firmware 4.2.1 is current",
    "ERROR pressure sensor reports a value out of range",
    "WARNING clock is 14 s late",
)
QUESTIONS = (
    "Write a short story about a lighthouse keeper who finds a letter.",
    "Explain to a child how rain is made.",
    "What should a new engineer know about batteries?",
    "Describe a morning at a busy harbour.",
    "Why do people like to travel by train?",
    "Tell me about the history of the bicycle.",
)


def tasks(workload: Workload, *, count: int = 6, max_tokens: int = 160) -> tuple[Task, ...]:
    """Return the first `count` requests of `workload`, always the same."""
    make = {
        Workload.EXTRACTION: _extraction,
        Workload.JSON_ECHO: _json_echo,
        Workload.FREE: _question,
    }[workload]
    return tuple(
        Task(messages=(Message(role=Role.USER, content=make(number)),), max_tokens=max_tokens)
        for number in range(count)
    )


def _question(number: int) -> str:
    return QUESTIONS[number % len(QUESTIONS)]


def _extraction(number: int) -> str:
    rng = random.Random(number)  # noqa: S311  # the same in every run
    lines = []
    for minute in range(12):
        device, place, event = rng.choice(DEVICES), rng.choice(PLACES), rng.choice(EVENTS)
        name = f"{device}-{rng.randrange(100, 1000)}"
        lines.append(f"2026-03-{number + 1:02} 08:{minute * 4:02} {name} ({place}): {event}")
    log = "\n".join(lines)
    return f"Copy every line of this log that has the word ERROR, exactly as it is.\n\n{log}"


def _json_echo(number: int) -> str:
    rng = random.Random(1000 + number)  # noqa: S311
    devices = [
        {
            "name": f"{rng.choice(DEVICES)}-{rng.randrange(100, 1000)}",
            "place": rng.choice(PLACES),
            "limits": {"low": rng.randrange(10), "high": rng.randrange(10, 100)},
            "enabled": True,
        }
        for _ in range(3)
    ]
    document = json.dumps({"site": f"gateway-{number + 1}", "devices": devices}, indent=2)
    return (
        'Return this JSON document with "enabled" of the first device set to false, and change'
        f" nothing else. Answer with JSON only.\n\n{document}"
    )

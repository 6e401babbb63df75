"""Prompts on which drafts are raced: answers that repeat their prompt, and answers that do not.

Made by arithmetic, so that every run and every engine gets the same ones.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from enum import StrEnum

from edge_agent.messages import Message, Role, Sampling


class Workload(StrEnum):
    """A kind of prompt that gateways get."""

    EXTRACTION = "extraction"
    """A report, of which a section is to be quoted."""
    JSON_ECHO = "json_echo"
    """A JSON document that is to come back with one value changed."""
    FREE = "free"
    """Questions without a text to copy from, answered at a temperature at which nothing loops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request; only the model ends its answer before `max_tokens` tokens."""

    messages: tuple[Message, ...]
    max_tokens: int
    sampling: Sampling


PLACES = ("boiler room", "cold store", "loading dock", "pump house", "roof", "server room")
DEVICES = ("pump", "valve", "freezer", "compressor", "meter", "fan")
FINDINGS = (
    "The filter of the {device} is clogged, so it runs hot and switches off after twenty minutes.",
    "The belt of the main drive shows cracks along its whole inner side.",
    "The door gasket is worn at the lower hinge and lets warm air in.",
    "Two of the six clamps on the supply line are loose and have left marks on the wall.",
    "The display of the {device} stays dark after a restart, although its fuse is sound.",
    "Water stands in the tray below the {device} and has reached the cable duct.",
)
WORK = (
    "The filter was cleaned and dried, and the belt was tightened by two turns.",
    "The gasket was greased until a new one arrives.",
    "All clamps were fastened and marked with red paint.",
    "The tray was emptied and its drain was flushed with warm water.",
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
    temperature = 0.8 if workload is Workload.FREE else 0.0
    return tuple(
        Task(
            messages=(Message(role=Role.USER, content=make(number)),),
            max_tokens=max_tokens,
            sampling=Sampling(temperature=temperature, seed=number),
        )
        for number in range(count)
    )


def _question(number: int) -> str:
    return QUESTIONS[number % len(QUESTIONS)]


def _extraction(number: int) -> str:
    rng = random.Random(number)  # noqa: S311  # the same in every run
    findings = " ".join(rng.sample(FINDINGS, 4)).format(device=rng.choice(DEVICES))
    work = " ".join(rng.sample(WORK, 2))
    return (
        f"## Order\nInspection in the {rng.choice(PLACES)} after an alarm at night.\n\n"
        f"## Findings\n{findings}\n\n## Work done\n{work}\n\n"
        'What does the report say under "Findings"? Quote it word by word.'
    )


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
        f"Here is a configuration file:\n\n```json\n{document}\n```\n\n"
        f'Write the complete file again, but with the site called "plant-{number + 1}".'
    )

"""The stored answers of the float model, read and written as one file.

`reference.json` keeps one answer per line, so that a change of one answer is a diff of one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from tests.real.fidelity.agreement import Agreement

HERE = Path(__file__).parent
PROMPTS_PATH = HERE / "prompts.json"
REFERENCE_PATH = HERE / "reference.json"
ANSWER_TOKENS = 32


class Step(Struct, frozen=True, array_like=True):
    """The two best logits at one greedy step; `token` was taken."""

    token: int
    second: int
    logit: float
    second_logit: float


class Expected(Struct, frozen=True):
    """The greedy answer to one prompt: up to 32 steps, the stop token included."""

    name: str
    prompt_ids: tuple[int, ...]
    steps: tuple[Step, ...]

    @property
    def ids(self) -> tuple[int, ...]:
        """The answer's token ids."""
        return tuple(step.token for step in self.steps)

    @property
    def gaps(self) -> tuple[float, ...]:
        """Per token, by how much its logit is above the second best."""
        return tuple(step.logit - step.second_logit for step in self.steps)


class Peer(Struct, frozen=True):
    """How near another engine came to the reference on the same weights and prompt ids."""

    version: str
    identical: int
    identical_or_near_tie: int

    @classmethod
    def of(cls, version: str, agreement: Agreement) -> Peer:
        """Return `agreement` in the form that is stored."""
        return cls(version, agreement.identical, agreement.identical_or_near_tie)


class Maker(Struct, frozen=True):
    """What computed the answers: library versions and the float weights."""

    torch: str
    transformers: str
    weights_sha256: str


class Reference(Struct, frozen=True):
    """Everything in `reference.json`; `stop_ids` end an answer before its 32nd token."""

    maker: Maker
    stop_ids: tuple[int, ...]
    peers: dict[str, Peer]
    answers: tuple[Expected, ...]


def read_reference() -> Reference:
    """Return the stored reference."""
    return msgspec.json.decode(REFERENCE_PATH.read_bytes(), type=Reference)


def write_reference(reference: Reference) -> None:
    """Store `reference`, one answer per line."""
    head = msgspec.to_builtins(reference) | {"answers": []}
    lines = b",\n".join(msgspec.json.encode(answer) for answer in reference.answers)
    text = msgspec.json.encode(head).replace(b'"answers":[]', b'"answers":[\n' + lines + b"\n]")
    REFERENCE_PATH.write_bytes(text + b"\n")

"""Float weights through our graph give the logits of transformers, however the tokens arrive.

The reference is in `reference.npz`; `make_reference.py` says how it was made. An error is
max |ours - theirs| / max |theirs|, over all logits of a prompt's last token and 40 decoded ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.engine.batch import Row
from edge_agent.engine.kv_cache import KvDtype
from tests.real.parity.checkpoints import LLAMA, NEW_TOKENS, PHI3
from tests.real.parity.packages import load, write_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from edge_agent.engine.decoder import Decoder

pytestmark = pytest.mark.real

LIMIT = 1e-4
PROMPTS = 3
CHUNK_TOKENS = 7
REFERENCE = np.load(Path(__file__).with_name("reference.npz"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One prompt of the reference with its 40 tokens; `logits` float32 [41, vocab]."""

    tokens: list[int]
    logits: NDArray[np.float32]
    is_long: bool

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.tokens) - NEW_TOKENS

    def error(self, ours: Sequence[NDArray[np.float32]]) -> float:
        """Return how far `ours`, 41 rows of logits, are from the reference."""
        return float(np.abs(np.stack(ours) - self.logits).max() / np.abs(self.logits).max())


def reference(case: str) -> list[Answered]:
    return [
        Answered(
            tokens=REFERENCE[f"{case}.{number}.tokens"].tolist(),
            logits=REFERENCE[f"{case}.{number}.logits"],
            is_long=case.endswith("long"),
        )
        for number in range(PROMPTS)
    ]


@dataclass(slots=True)
class Reader:
    """Feeds a sequence to one slot, `sizes` tokens at a time, then one by one."""

    decoder: Decoder
    slot: int
    sequence: Answered
    sizes: Sequence[int]
    past: int = 0
    fed: int = 0

    @property
    def is_done(self) -> bool:
        return self.past == len(self.sequence.tokens)

    def row(self) -> Row:
        size = self.sizes[self.fed] if self.fed < len(self.sizes) else 1
        stop = min(self.past + size, max(self.sequence.prompt, self.past + 1))
        return Row(
            slot=self.slot,
            past=self.past,
            tokens=self.sequence.tokens[self.past : stop],
            num_logits=int(stop >= self.sequence.prompt),
            position_offset=self.decoder.rope.long_offset if self.sequence.is_long else 0,
        )

    def advance(self, row: Row) -> None:
        self.past += len(row.tokens)
        self.fed += 1


def read(decoder: Decoder, readers: Sequence[Reader]) -> list[list[NDArray[np.float32]]]:
    """Step until all readers are done; return the logits of each."""
    logits: list[list[NDArray[np.float32]]] = [[] for _ in readers]
    while any(not reader.is_done for reader in readers):
        running = [(number, reader) for number, reader in enumerate(readers) if not reader.is_done]
        rows = [reader.row() for _, reader in running]
        results = iter(decoder.forward(rows).copy())
        for (number, reader), row in zip(running, rows, strict=True):
            logits[number] += [next(results) for _ in range(row.num_logits)]
            reader.advance(row)
    return logits


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    built = {}
    for name, checkpoint in {"phi3": PHI3, "llama": LLAMA}.items():
        built[name], _ = write_package(checkpoint, tmp_path_factory.mktemp(name))
    return built


CASES = ["phi3-short", "phi3-long", "llama"]
WHOLE = (1000,)
CHUNKS = (CHUNK_TOKENS,) * 1000


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sizes", [WHOLE, CHUNKS], ids=["whole", "in chunks"])
def test_a_prompt_alone(packages: dict[str, Path], case: str, sizes: tuple[int, ...]) -> None:
    decoder = load(packages[case.partition("-")[0]], KvDtype.FP32, slots=1)

    for sequence in reference(case):
        [logits] = read(decoder, [Reader(decoder, 0, sequence, sizes)])

        assert sequence.error(logits) < LIMIT


@pytest.mark.parametrize("cases", [("phi3-short", "phi3-long"), ("llama",)], ids="+".join)
def test_all_prompts_in_one_ragged_batch(packages: dict[str, Path], cases: tuple[str, ...]) -> None:
    sequences = [sequence for case in cases for sequence in reference(case)]
    decoder = load(packages[cases[0].partition("-")[0]], KvDtype.FP32, slots=len(sequences))

    # Chunks of other sizes in every slot: prompts end at different steps, beside decoding rows.
    readers = [
        Reader(decoder, slot, sequence, (3 + 5 * slot,) * 1000)
        for slot, sequence in enumerate(sequences)
    ]
    for sequence, logits in zip(sequences, read(decoder, readers), strict=True):
        assert sequence.error(logits) < LIMIT


@pytest.mark.parametrize("case", CASES)
def test_rewound_and_resumed(packages: dict[str, Path], case: str) -> None:
    decoder = load(packages[case.partition("-")[0]], KvDtype.FP32, slots=2)
    for sequence in reference(case):
        kept = sequence.prompt - 2
        offset = decoder.rope.long_offset if sequence.is_long else 0
        other = [9, 8, 7, 6, 5, 4]
        tokens = sequence.tokens[:kept] + other
        decoder.forward([Row(slot=1, past=0, tokens=tokens, num_logits=1, position_offset=offset)])

        [logits] = read(decoder, [Reader(decoder, 1, sequence, (1, 1), past=kept)])

        assert sequence.error(logits) < LIMIT


@pytest.mark.parametrize("case", CASES)
def test_a_half_precision_cache_stays_near(packages: dict[str, Path], case: str) -> None:
    decoder = load(packages[case.partition("-")[0]], KvDtype.FP16, slots=1)

    for sequence in reference(case):
        [logits] = read(decoder, [Reader(decoder, 0, sequence, CHUNKS)])

        assert sequence.error(logits) < 0.02


@pytest.mark.parametrize("case", ["phi3-short", "phi3-long"])
def test_the_other_mode_is_far_off(packages: dict[str, Path], case: str) -> None:
    decoder = load(packages["phi3"], KvDtype.FP32, slots=1)

    for sequence in reference(case):
        other = replace(sequence, is_long=not sequence.is_long)
        [logits] = read(decoder, [Reader(decoder, 0, other, WHOLE)])

        assert sequence.error(logits) > 1000 * LIMIT

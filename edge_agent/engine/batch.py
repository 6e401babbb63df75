"""One step's rows packed into the arrays that the decoder graph takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one slot computes in a step: `tokens`, behind `past` tokens that its cache holds.

    `num_logits` counts from the end: 0 inside a prompt, 1 for its last chunk and for decoding.
    `position_offset` is added to every position (the long rows of the rope tables).
    """

    slot: int
    past: int
    tokens: Sequence[int]
    num_logits: int
    position_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """T real tokens of rows in B slots side by side, at most S tokens in each; R rows of logits."""

    slots: range
    """From the first slot that has a row to the last."""
    num_logits: int
    feeds: dict[str, NDArray[Any]]
    """Graph inputs by name: input_ids [T], pad_idx [B, S], unpad_idx [T], seqlens_k [B],
    query_seqlens [B], position_ids [B, S], logit_idx [R]."""


def pack(rows: Sequence[Row], *, chunk: Row | None = None) -> Batch:
    """Concatenate the tokens of `rows`; slots without a row are idle and cost nothing.

    Logits come out in the order of `rows`, those of one row in the order of its tokens. `chunk`,
    one of `rows`, attends apart: its slot is idle among the padded ones, and its attention comes
    behind theirs.
    """
    slots = range(min(row.slot for row in rows), max(row.slot for row in rows) + 1)
    num_slots = len(slots)
    width = max((len(row.tokens) for row in rows if row is not chunk), default=1)
    total = sum(len(row.tokens) for row in rows)
    input_ids = np.empty(total, np.int64)
    unpad_idx = np.empty(total, np.int64)
    # Padded places gather packed token 0: what comes out there is never read.
    pad_idx = np.zeros((num_slots, width), np.int64)
    position_ids = np.zeros((num_slots, width), np.int64)
    # An idle slot may be empty, and the op wants at least one token: max(past + new, 1) - 1.
    seqlens_k = np.zeros(num_slots, np.int32)
    query_seqlens = np.zeros(num_slots, np.int32)
    logit_idx: list[int] = []
    start = 0
    for row in rows:
        count = len(row.tokens)
        end = start + count
        place = row.slot - slots.start
        input_ids[start:end] = row.tokens
        logit_idx += range(end - row.num_logits, end)
        if row is chunk:
            first = num_slots * width
            seqlens_k[place] = max(row.past - 1, 0)
        else:
            first = place * width
            position = row.past + row.position_offset
            pad_idx[place, :count] = np.arange(start, end)
            position_ids[place, :count] = np.arange(position, position + count)
            seqlens_k[place] = row.past + count - 1
            query_seqlens[place] = count
        unpad_idx[start:end] = np.arange(first, first + count)
        start = end
    return Batch(
        slots=slots,
        num_logits=len(logit_idx),
        feeds={
            "input_ids": input_ids,
            "pad_idx": pad_idx,
            "unpad_idx": unpad_idx,
            "seqlens_k": seqlens_k,
            "query_seqlens": query_seqlens,
            "position_ids": position_ids,
            "logit_idx": np.asarray(logit_idx, np.int64),
        },
    )


def chunk_feeds(rows: Sequence[Row], chunk: Row | None, *, first_slot: int) -> dict[str, Any]:
    """Return the graph inputs that tell of `chunk`, one of `rows`, or that there is none.

    has_chunk []; chunk_idx and chunk_positions [1, W]; chunk_slot, counted from `first_slot`, and
    chunk_past [1].
    """
    if chunk is None:
        none, zero = np.empty((1, 0), np.int64), np.zeros(1, np.int64)
        idle = {"chunk_idx": none, "chunk_positions": none, "chunk_slot": zero, "chunk_past": zero}
        return {"has_chunk": np.array(False), **idle}  # noqa: FBT003  # an array of one truth
    width = len(chunk.tokens)
    before = next(number for number, row in enumerate(rows) if row is chunk)
    start = sum(len(row.tokens) for row in rows[:before])
    position = chunk.past + chunk.position_offset
    return {
        "has_chunk": np.array(True),  # noqa: FBT003
        "chunk_idx": np.arange(start, start + width)[np.newaxis],
        "chunk_positions": np.arange(position, position + width)[np.newaxis],
        "chunk_slot": np.array([chunk.slot - first_slot], np.int64),
        "chunk_past": np.array([chunk.past], np.int64),
    }

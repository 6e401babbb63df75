"""One step's rows packed into the arrays that the decoder graph takes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    feeds: dict[str, NDArray[np.int64] | NDArray[np.int32]]
    """Graph inputs by name: input_ids [T], pad_idx [B, S], unpad_idx [T], seqlens_k [B],
    query_seqlens [B], position_ids [B, S], logit_idx [R]."""


def pack(rows: Sequence[Row]) -> Batch:
    """Concatenate the tokens of `rows`; slots without a row are idle and cost nothing.

    Logits come out in the order of `rows`, those of one row in the order of its tokens.
    """
    slots = range(min(row.slot for row in rows), max(row.slot for row in rows) + 1)
    num_slots = len(slots)
    width = max(len(row.tokens) for row in rows)
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
        position = row.past + row.position_offset
        input_ids[start:end] = row.tokens
        unpad_idx[start:end] = np.arange(place * width, place * width + count)
        pad_idx[place, :count] = np.arange(start, end)
        position_ids[place, :count] = np.arange(position, position + count)
        seqlens_k[place] = row.past + count - 1
        query_seqlens[place] = count
        logit_idx += range(end - row.num_logits, end)
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

"""Runs a decoder graph by hand: packs rows, keeps their caches, asks for all logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.modelstore.manifest import Rope, Shape

CAPACITY = 96


class PackedSession:
    """The decoder `graph` with one cache per slot; `lengths` are the tokens in each."""

    def __init__(
        self,
        graph: Path,
        shape: Shape,
        rope: Rope,
        *,
        slots: int = 1,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(str(graph), options)
        cache = (slots, shape.kv_heads, CAPACITY, shape.head_dim)
        names = [f"{layer}.{side}" for layer in range(shape.layers) for side in "kv"]
        self._caches = {name: np.zeros(cache, dtype) for name in names}
        frequencies = rope.theta ** (-np.arange(0, rope.dims, 2) / rope.dims)
        angles = np.arange(CAPACITY)[:, None] * frequencies
        self._cos, self._sin = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
        self.lengths = [0] * slots

    def step(self, rows: Mapping[int, Sequence[int]]) -> dict[int, NDArray[np.float32]]:
        """Feed `rows` (slot -> token ids) in one pass; return the logits of every token by slot."""
        slots = len(self.lengths)
        counts = [len(rows.get(slot, ())) for slot in range(slots)]
        widest = max(counts)
        places = [(slot, place) for slot in range(slots) for place in range(counts[slot])]
        pad_idx = np.zeros((slots, widest), np.int64)
        for number, place in enumerate(places):
            pad_idx[place] = number
        after = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        positions = np.array(self.lengths)[:, None] + np.arange(widest)
        logits, *presents = self._session.run(
            None,
            {
                "input_ids": np.array([rows[slot][place] for slot, place in places], np.int64),
                "pad_idx": pad_idx,
                "unpad_idx": np.array([s * widest + p for s, p in places], np.int64),
                "seqlens_k": np.array([max(count, 1) - 1 for count in after], np.int32),
                "query_seqlens": np.array(counts, np.int32),
                "total_len": np.array(CAPACITY, np.int32),
                "position_ids": np.minimum(positions, CAPACITY - 1).astype(np.int64),
                "cos": self._cos,
                "sin": self._sin,
                "logit_idx": np.arange(len(places)),
                **{f"past.{name}": cache for name, cache in self._caches.items()},
            },
        )
        self._caches = dict(zip(self._caches, presents, strict=True))
        self.lengths = after
        owners = np.array([slot for slot, _ in places])
        return {slot: logits[owners == slot] for slot in rows}

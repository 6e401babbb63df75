"""Packing: every real token once, idle slots empty, logits where asked."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.batch import Row, pack


def test_decode_rows_and_a_chunk_share_a_batch() -> None:
    batch = pack(
        [
            Row(slot=5, past=7, tokens=[70], num_logits=1),
            Row(slot=7, past=4, tokens=[40, 41, 42], num_logits=0, position_offset=100),
        ]
    )

    # Slots before the first that has a row cost nothing.
    assert (batch.slots, batch.num_logits) == (range(5, 8), 1)
    assert batch.feeds["input_ids"].tolist() == [70, 40, 41, 42]
    assert batch.feeds["pad_idx"].tolist() == [[0, 0, 0], [0, 0, 0], [1, 2, 3]]
    assert batch.feeds["unpad_idx"].tolist() == [0, 6, 7, 8]
    assert batch.feeds["seqlens_k"].tolist() == [7, 0, 6]
    assert batch.feeds["query_seqlens"].tolist() == [1, 0, 3]
    assert batch.feeds["position_ids"].tolist() == [[7, 0, 0], [0, 0, 0], [104, 105, 106]]
    assert batch.feeds["logit_idx"].tolist() == [0]


ROWS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 50), st.lists(st.integers(0, 99), min_size=1)),
    min_size=1,
    unique_by=lambda row: row[0],
)


@given(ROWS)
def test_unpacking_what_was_packed_gives_every_row_its_own_tokens(
    drawn: list[tuple[int, int, list[int]]],
) -> None:
    rows = [Row(slot=s, past=p, tokens=t, num_logits=len(t)) for s, p, t in drawn]
    batch = pack(rows)
    feeds = batch.feeds

    padded = feeds["input_ids"][feeds["pad_idx"]]
    for row in rows:
        place = batch.slots.index(row.slot)
        assert padded[place, : len(row.tokens)].tolist() == list(row.tokens)
        positions = feeds["position_ids"][place, : len(row.tokens)]
        assert positions.tolist() == list(range(row.past, row.past + len(row.tokens)))
    assert np.array_equal(padded.ravel()[feeds["unpad_idx"]], feeds["input_ids"])
    assert feeds["logit_idx"].tolist() == list(range(len(feeds["input_ids"])))

"""Packing: every real token once, idle slots empty, logits where asked."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.batch import Row, chunk_feeds, pack


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


def test_a_chunk_apart_leaves_its_slot_idle_and_comes_behind_the_padded_rows() -> None:
    chunk = Row(slot=6, past=4, tokens=[40, 41, 42], num_logits=1, position_offset=100)
    rows = [Row(slot=5, past=7, tokens=[70], num_logits=1), chunk]
    rows.append(Row(slot=8, past=1, tokens=[80, 81], num_logits=1))
    batch = pack(rows, chunk=chunk)

    assert batch.feeds["input_ids"].tolist() == [70, 40, 41, 42, 80, 81]
    assert batch.feeds["pad_idx"].tolist() == [[0, 0], [0, 0], [0, 0], [4, 5]]
    assert batch.feeds["unpad_idx"].tolist() == [0, 8, 9, 10, 6, 7]
    assert batch.feeds["seqlens_k"].tolist() == [7, 3, 0, 2]
    assert batch.feeds["query_seqlens"].tolist() == [1, 0, 0, 2]
    assert batch.feeds["logit_idx"].tolist() == [0, 3, 5]
    told = chunk_feeds(rows, chunk, first_slot=5)
    assert {name: array.tolist() for name, array in told.items()} == {
        "has_chunk": True,
        "chunk_idx": [[1, 2, 3]],
        "chunk_positions": [[104, 105, 106]],
        "chunk_slot": [1],
        "chunk_past": [4],
    }


def test_without_a_chunk_it_is_told_that_there_is_none() -> None:
    row = Row(slot=5, past=0, tokens=[70], num_logits=1)
    told = chunk_feeds([row], None, first_slot=5)
    assert not told["has_chunk"]
    assert told["chunk_idx"].shape == told["chunk_positions"].shape == (1, 0)


def test_a_chunk_alone_leaves_one_idle_row() -> None:
    chunk = Row(slot=2, past=0, tokens=[7, 8], num_logits=1)
    feeds = pack([chunk], chunk=chunk).feeds
    assert feeds["pad_idx"].tolist() == [[0]]
    assert feeds["unpad_idx"].tolist() == [1, 2]
    assert (feeds["seqlens_k"].tolist(), feeds["query_seqlens"].tolist()) == ([0], [0])


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

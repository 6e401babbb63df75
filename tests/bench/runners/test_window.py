"""The speed of several streams, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench.runners.window import counted, together_tok_s


def test_only_the_time_counts_in_which_all_decode() -> None:
    early = [(at, 1.0) for at in (1.0, 2.0, 3.0, 4.0, 5.0)]
    late = [(at, 1.0) for at in (3.0, 4.0, 5.0, 6.0)]
    # From 3 to 5: two tokens of each after the first moment.
    assert together_tok_s([early, late]) == 2.0


def test_streams_that_never_met_have_no_speed() -> None:
    with pytest.raises(ValueError, match="never decoded at once"):
        together_tok_s([[(1.0, 1.0), (2.0, 1.0)], [(2.0, 1.0), (3.0, 1.0)]])


@given(st.integers(1, 8), st.integers(2, 50), st.floats(0.01, 10))
def test_streams_in_step_are_as_fast_as_one_times_their_number(
    streams: int, tokens: int, step_s: float
) -> None:
    one = [(number * step_s, 1.0) for number in range(tokens)]
    assert together_tok_s([one] * streams) == pytest.approx(streams / step_s)


def test_pieces_share_the_tokens_that_were_counted_in_the_end() -> None:
    assert counted([0.5, 1.0], 6) == [(0.5, 3.0), (1.0, 3.0)]

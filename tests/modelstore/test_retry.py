"""When to ask again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.modelstore.retry import Patience, asked_s

NOW_S = 1_800_000_000.0  # 2027-01-15 08:00:00 UTC


def test_pauses_double_up_to_a_limit_and_end() -> None:
    patience = Patience(tries=7, first_s=1, longest_s=10)

    pauses = [patience.pause_s(failures, None) for failures in range(1, 9)]

    assert pauses == [1, 2, 4, 8, 10, 10, None, None]


def test_what_the_server_asks_for_is_kept_if_it_is_bearable() -> None:
    patience = Patience(longest_asked_s=120)

    assert [patience.pause_s(1, asked) for asked in (0, 30, 120, 121)] == [1, 30, 120, None]
    assert patience.pause_s(5, 2) == 16


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("7", 7),
        (" 7 ", 7),
        ("Fri, 15 Jan 2027 08:01:00 GMT", 60),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0),
    ],
)
def test_a_header_names_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert asked_s(header, NOW_S) == seconds


@given(st.text())
def test_any_header_is_read_or_ignored(header: str) -> None:
    found = asked_s(header, NOW_S)

    assert found is None or found >= 0

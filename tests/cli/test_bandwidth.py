"""The probe reads: what it says is a speed that some memory can have. And shares, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.cli.bandwidth import Probe, paired_share, share_of


@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_read_at_some_speed(threads: int) -> None:
    with Probe(threads) as probe:
        assert all(0.01 < speed < 10_000 for speed in probe.passes_gb_s())


def test_bursts_and_passes_take_turns() -> None:
    said: list[str] = []

    def burst() -> float:
        said.append("burst")
        return 20.0

    def probe() -> list[float]:
        said.append("probe")
        return [25.0, 25.0]

    assert paired_share(burst, probe, 2) == (0.8, 20.0, 25.0)
    assert said == ["probe", "burst", "probe", "burst", "probe"]


def test_each_burst_is_compared_with_the_passes_beside_it() -> None:
    # The machine was twice as fast at the end, for both.
    found = share_of([18.0, 18.0, 36.0], [[20.0, 20.0], [20.0, 20.0], [20.0, 40.0], [40.0, 40.0]])
    assert found.share == pytest.approx(0.9)
    assert (found.read_gb_s, found.memory_gb_s) == (18.0, 20.0)


def test_a_pause_in_one_pass_changes_nothing() -> None:
    assert share_of([9.0], [[10.0, 0.1], [10.0, 10.0]]).share == pytest.approx(0.9)


@given(st.lists(st.floats(1, 100), min_size=1), st.floats(0.1, 1))
def test_a_constant_share_is_found_at_any_speed_of_memory(
    speeds: list[float], share: float
) -> None:
    for speed in speeds:
        found = share_of([share * speed] * 3, [[speed, speed]] * 4)
        assert found.share == pytest.approx(share)

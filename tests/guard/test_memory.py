"""What memory is for us: without what others keep, within a budget."""

from __future__ import annotations

from msgspec.structs import replace

from edge_agent.guard.memory import Memory, within

MEMORY = Memory(
    available_bytes=1000,
    swift_bytes=600,
    total_bytes=4000,
    bound="machine",
    rss_anon_bytes=300,
    rss_file_bytes=400,
)


def test_what_others_keep_is_not_ours() -> None:
    ours = within(MEMORY, budget_bytes=None, reserve_bytes=250)
    assert (ours.available_bytes, ours.swift_bytes, ours.total_bytes) == (750, 350, 4000)


def test_a_reserve_larger_than_all_leaves_nothing() -> None:
    ours = within(MEMORY, budget_bytes=None, reserve_bytes=5000)
    assert (ours.available_bytes, ours.swift_bytes) == (0, 0)


def test_a_budget_counts_what_we_have_taken() -> None:
    ours = within(MEMORY, budget_bytes=500, reserve_bytes=100)
    assert (ours.available_bytes, ours.swift_bytes) == (200, 200)
    assert (ours.total_bytes, ours.bound) == (500, "budget")


def test_a_budget_that_is_used_up_leaves_nothing() -> None:
    assert within(MEMORY, budget_bytes=200, reserve_bytes=0).available_bytes == 0


def test_a_budget_larger_than_the_machine_bounds_nothing() -> None:
    ours = within(MEMORY, budget_bytes=50_000, reserve_bytes=0)
    assert ours == replace(MEMORY)

"""Who would take a request, by the numbers of health."""

from __future__ import annotations

from msgspec.structs import replace

from tests.ops.test_metrics import HEALTH


def test_who_is_ready_is_who_answers_and_is_not_in_the_way() -> None:
    both = replace(HEALTH, answers=("local", "attic"))
    assert both.ready == ("local", "attic")
    assert replace(both, obstacles=("pressure: memory is soft",)).ready == ("attic",)
    assert replace(HEALTH, obstacles=()).ready == ()

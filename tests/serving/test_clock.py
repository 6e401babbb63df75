from __future__ import annotations

from edge_agent.serving import clock
from edge_agent.serving.clock import Moment
from tests.serving.drafts import Clock

DAY_S = 86400.0


def test_a_wall_clock_that_jumps_moves_no_deadline() -> None:
    now = Clock()
    deadline = now().plus(60)

    now.set_wall(DAY_S)

    assert deadline.seconds_after(now()) == 60


def test_after_a_reboot_wall_time_decides() -> None:
    now = Clock()
    deadline = now().plus(60)

    now.reboot(down_s=45)

    assert deadline.seconds_after(now()) == 15


def test_the_real_clock_names_the_boot_and_moves_forward() -> None:
    first, second = clock.now(), clock.now()

    assert first.boot_id == second.boot_id
    assert second.seconds_after(first) >= 0


def test_moments_of_one_boot_ignore_the_wall() -> None:
    early = Moment(boot_id="b", boot_s=5, wall_s=900)
    late = Moment(boot_id="b", boot_s=7, wall_s=100)

    assert late.seconds_after(early) == 2

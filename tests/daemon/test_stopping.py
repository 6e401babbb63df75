"""A stage of the shutdown ends in time or is named and left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from edge_agent.daemon.stopping import stage

if TYPE_CHECKING:
    import pytest


async def test_a_stage_that_overruns_is_named_and_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await stage("jobs", asyncio.Event().wait, 0.01)
    assert "stage=jobs" in caplog.text


async def test_a_stage_in_time_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    await stage("jobs", work, 60)
    assert done.is_set()
    assert caplog.text == ""

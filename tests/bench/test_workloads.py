"""The prompts that drafts are raced on."""

from __future__ import annotations

import json

import pytest

from tests.bench.workloads import Workload, tasks


@pytest.mark.parametrize("workload", Workload)
def test_every_run_gets_the_same_prompts_and_each_is_another(workload: Workload) -> None:
    found = tasks(workload, count=5, max_tokens=9)
    assert found == tasks(workload, count=5, max_tokens=9)
    assert len({each.messages[0].content for each in found}) == 5
    assert {each.max_tokens for each in found} == {9}


def test_what_is_to_be_copied_is_in_the_prompt() -> None:
    for each in tasks(Workload.EXTRACTION):
        content = each.messages[0].content
        assert isinstance(content, str)
        assert "ERROR" in content.partition("\n\n")[2]


def test_what_is_to_be_echoed_is_json() -> None:
    for each in tasks(Workload.JSON_ECHO):
        content = each.messages[0].content
        assert isinstance(content, str)
        assert json.loads(content.partition("\n\n")[2])["devices"][0]["enabled"] is True

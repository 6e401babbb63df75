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


def content_of(workload: Workload) -> list[str]:
    return [task.messages[0].content for task in tasks(workload)]


def test_what_is_to_be_quoted_is_in_the_prompt() -> None:
    for content in content_of(Workload.EXTRACTION):
        section = content.partition("## Findings\n")[2].partition("\n\n## Work done")[0]
        assert len(section.split(". ")) == 4


def test_what_is_to_be_echoed_is_json() -> None:
    for content in content_of(Workload.JSON_ECHO):
        document = content.partition("```json\n")[2].partition("\n```")[0]
        assert json.loads(document)["devices"][0]["enabled"] is True

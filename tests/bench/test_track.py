"""What is run, for courses of all lengths."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.bench.field import Field
from tests.bench.test_field import all_peers
from tests.bench.track import COURSES, SECTIONS, Course, heats

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(all_peers(tmp_path), package=tmp_path, small_home=tmp_path / "home", threads=2)


@pytest.mark.parametrize("course", COURSES.values(), ids=COURSES)
def test_every_prompt_and_answer_fits_the_context_it_is_given(field: Field, course: Course) -> None:
    for heat in heats(course, field):
        for lap in heat.laps:
            for contestant in lap.contestants:
                context = json.loads(contestant.options_json).get("context")
                needed = lap.task.tokens + lap.task.tail + lap.task.new_tokens
                assert context is None or context > needed


def test_only_the_sections_that_are_asked_for_are_run(field: Field) -> None:
    found = [heat.section for heat in heats(COURSES["full"], field, {"ttft", "streams"})]
    assert found == ["streams", "ttft"]
    assert {heat.section for heat in heats(COURSES["full"], field)} == set(SECTIONS)


def test_a_depth_is_run_alike_with_and_without_others(field: Field) -> None:
    for depth in COURSES["full"].depths:
        alone = list(heats(replace(COURSES["full"], depths=(depth,)), field, {"decode"}))
        assert set(alone) <= set(heats(COURSES["full"], field, {"decode"}))


def test_ids_of_prompts_are_those_of_the_course(field: Field) -> None:
    course = Course(first_id=300, num_ids=50)
    ids = {
        (lap.task.first_id, lap.task.num_ids) for heat in heats(course, field) for lap in heat.laps
    }
    assert ids == {(300, 50)}

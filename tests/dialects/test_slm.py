"""The `/reasoning` body and its answer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Limits
from edge_agent.dialects import slm
from edge_agent.errors import EdgeError, InvalidRequest
from edge_agent.messages import Answer, Done, FinishReason, Request, Role, Timings, Usage
from tests.dialects.test_body import json_values

LIMITS = Limits()


def parse(**fields: Any) -> Request:
    return slm.parse_reasoning({"prompt": "2+2?", **fields}, request_id="r1", limits=LIMITS)


def test_a_prompt_alone_gets_the_defaults_that_callers_know() -> None:
    request = parse()

    assert request.max_tokens == 200
    assert request.sampling.temperature == 0.3
    assert request.messages[0].role is Role.USER
    assert request.messages[0].content.endswith("\n2+2?")


@pytest.mark.parametrize("task", ["reasoning", "math", "coding"])
def test_each_task_type_puts_its_own_words_before_the_prompt(task: str) -> None:
    assert parse(task_type=task).messages[0].content == f"{slm.PREFIXES[task]}\n2+2?"


def test_the_fields_of_a_request_arrive() -> None:
    request = parse(max_length=5, temperature=0, deadline_s=9, stop="x", seed=3, model="m")

    assert request.max_tokens == 5
    assert request.sampling.temperature == 0
    assert request.sampling.seed == 3
    assert request.deadline_s == 9
    assert request.stop == ("x",)
    assert request.model == "m"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"task_type": "poetry"}, "task_type"),
        ({"task_type": 1}, "task_type"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": "9"}, "max_length"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": False}, "temperature"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)
    assert refused.value.param == param


names = st.sampled_from(
    [
        "prompt",
        "task_type",
        "max_length",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "stream",
        "deadline_s",
        "model",
    ]
)


@given(st.dictionaries(names, json_values))
def test_arbitrary_json_is_a_request_or_an_error_of_ours(body: dict[str, Any]) -> None:
    for candidate in (body, {**body, "prompt": "x"}):
        with suppress(EdgeError):
            assert slm.parse_reasoning(candidate, request_id="r", limits=LIMITS).messages


def test_an_answer_keeps_the_names_of_the_original_and_adds_ours() -> None:
    done = Done(
        finish_reason=FinishReason.LENGTH,
        usage=Usage(prompt_tokens=3, completion_tokens=4),
        timings=Timings(queue_s=0, prefill_s=0, decode_s=0),
    )
    body = slm.answer_body(
        Answer(text="4", done=done), request_id="r1", task="math", model="m", inference_s=1.23456
    )

    assert body["generated_text"] == "4"
    assert body["task_type"] == "math"
    assert body["inference_time"] == 1.235
    assert body["model"] == "m"
    assert body["usage"]["total_tokens"] == 7
    assert body["finish_reason"] == "length"
    assert body["request_id"] == "r1"
    assert body["served_by"] == "local"

"""What a body says of single tokens, and how log-probabilities are told."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.config import Limits
from edge_agent.dialects.openai import parse_chat
from edge_agent.dialects.openai_tokens import logprobs_body
from edge_agent.errors import InvalidRequest, TooLarge
from edge_agent.messages import Request, TokenLogprob

LIMITS = Limits()
EURO = "€".encode()


def parse(**fields: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "hi"}], **fields}
    return parse_chat(body, request_id="r", limits=LIMITS).request


@pytest.mark.parametrize(
    ("fields", "logprobs"),
    [
        ({}, None),
        ({"logprobs": None, "top_logprobs": None}, None),
        ({"logprobs": False}, None),
        ({"top_logprobs": 0}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs_are_asked_for_with_or_without_others(
    fields: dict[str, Any], logprobs: int | None
) -> None:
    assert parse(**fields).logprobs == logprobs


def test_biases_are_by_token_id() -> None:
    asked = {"0": 100, "50256": -100, "7": 0.5, "8": 0}

    assert parse(logit_bias=asked).logit_bias == {0: 100.0, 50256: -100.0, 7: 0.5}


def test_ends_are_put_off_ignored_and_added() -> None:
    request = parse(min_tokens=3, max_tokens=3, ignore_eos=True, stop_token_ids=[5, 0])

    assert (request.min_tokens, request.ignore_eos) == (3, True)
    assert request.stop_token_ids == (5, 0)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 5}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": -1}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 1}, "top_logprobs"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"07": 1}}, "logit_bias"),
        ({"logit_bias": {"٣": 1}}, "logit_bias"),
        ({"logit_bias": {"1" * 4000: 1}}, "logit_bias"),
        ({"logit_bias": {"7": 101}}, "logit_bias.7"),
        ({"logit_bias": {"7": "1"}}, "logit_bias.7"),
        ({"min_tokens": -1}, "min_tokens"),
        ({"min_tokens": 4, "max_tokens": 3}, "min_tokens"),
        ({"ignore_eos": 1}, "ignore_eos"),
        ({"stop_token_ids": 5}, "stop_token_ids"),
        ({"stop_token_ids": [5, "6"]}, "stop_token_ids[1]"),
        ({"stop_token_ids": [True]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [-1]}, "stop_token_ids[0]"),
        ({"stop_token_ids": [1 << 62]}, "stop_token_ids[0]"),
    ],
)
def test_a_bad_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(**fields)

    assert type(refused.value) is InvalidRequest
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"logit_bias": {str(i): 1 for i in range(301)}}, "301 tokens is over the limit of 300"),
        ({"stop_token_ids": list(range(65))}, "65 tokens is over the limit of 64"),
    ],
)
def test_too_many_tokens_are_counted(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(TooLarge, match=sentence):
        parse(**fields)


def test_logprobs_are_told_as_openai_does() -> None:
    part, end = (
        TokenLogprob(text="\ufffd", logprob=-0.5, data=EURO[:2]),
        TokenLogprob(text="<|end|>", logprob=-9999.0),
    )
    chosen = TokenLogprob(text="\ufffd", logprob=-0.5, data=EURO[:2], top=(part, end))

    assert logprobs_body([chosen]) == {
        "content": [
            {
                "token": "\ufffd",
                "logprob": -0.5,
                "bytes": [0xE2, 0x82],
                "top_logprobs": [
                    {"token": "\ufffd", "logprob": -0.5, "bytes": [0xE2, 0x82]},
                    {"token": "<|end|>", "logprob": -9999.0, "bytes": None},
                ],
            }
        ],
        "refusal": None,
    }


def test_no_logprobs_are_null() -> None:
    assert logprobs_body([]) is None

"""Log-probabilities and the fields that speak of single tokens: OpenAI's client, the real model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import openai
import pytest

from tests.conftest import MODEL
from tests.contract.real_daemon import real_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
    from openai.types.chat.chat_completion_token_logprob import ChatCompletionTokenLogprob

pytestmark = pytest.mark.real

QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France? Answer with an emoji."}
]
END, END_ID = "<|im_end|>", 2
# The logits of one prompt differ in their last digits with what else is computed in the step.
NEAR = 0.02
# Powers are taken in single precision.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def client(model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with (
        real_daemon(model_home, tmp_path_factory.mktemp("state")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def ask(client: openai.OpenAI, **fields: Any) -> ChatCompletion:
    answer: ChatCompletion = client.chat.completions.create(
        model=MODEL, messages=QUESTION, **{"temperature": 0, "max_completion_tokens": 12, **fields}
    )
    return answer


def content_of(answer: ChatCompletion) -> list[ChatCompletionTokenLogprob]:
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    return logprobs.content


def bytes_of(content: list[ChatCompletionTokenLogprob]) -> bytes:
    return b"".join(bytes(token.bytes or []) for token in content)


def test_every_token_has_its_logprob_and_the_greedy_one_is_the_likeliest(
    client: openai.OpenAI,
) -> None:
    answer = ask(client, logprobs=True, top_logprobs=5)
    content = content_of(answer)

    assert answer.usage
    assert len(content) == answer.usage.completion_tokens
    assert bytes_of(content).decode() == answer.choices[0].message.content
    for token in content:
        top = token.top_logprobs
        assert len(top) == 5
        assert (top[0].token, top[0].logprob) == (token.token, token.logprob)
        assert [other.logprob for other in top] == sorted((o.logprob for o in top), reverse=True)
        assert 0 < math.fsum(math.exp(other.logprob) for other in top) <= 1 + ROUNDING


def test_a_stream_tells_the_same(client: openai.OpenAI) -> None:
    whole = content_of(ask(client, logprobs=True, top_logprobs=5))
    text: list[str] = []
    content: list[ChatCompletionTokenLogprob] = []
    with client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_completion_tokens=12,
        logprobs=True, top_logprobs=5, stream=True,
    ) as stream:  # fmt: skip
        for chunk in stream:
            [choice] = chunk.choices
            text.append(choice.delta.content or "")
            content += (choice.logprobs and choice.logprobs.content) or []

    assert [token.token for token in content] == [token.token for token in whole]
    assert [t.logprob for t in content] == pytest.approx([t.logprob for t in whole], abs=NEAR)
    assert "".join(text) == bytes_of(content).decode()


def test_nothing_is_told_that_nobody_asked_for(client: openai.OpenAI) -> None:
    assert ask(client).choices[0].logprobs is None
    assert not any(token.top_logprobs for token in content_of(ask(client, logprobs=True)))


def test_a_bias_makes_and_forbids_tokens_and_the_logprobs_stay_the_models_own(
    client: openai.OpenAI,
) -> None:
    plain = content_of(ask(client, logprobs=True, top_logprobs=2, max_completion_tokens=1))
    ended = ask(client, logprobs=True, logit_bias={str(END_ID): 100})

    assert ended.choices[0].message.content == ""
    assert ended.choices[0].finish_reason == "stop"
    [end] = content_of(ended)
    assert (end.token, end.bytes) == (END, None)
    assert end.logprob < plain[0].logprob


def test_an_answer_goes_on_when_its_end_is_not_to_come_yet(client: openai.OpenAI) -> None:
    biased = {"logit_bias": {str(END_ID): 100}}
    late = ask(client, **biased, extra_body={"min_tokens": 7})
    never = ask(client, **biased, extra_body={"ignore_eos": True})

    assert late.usage
    assert never.usage
    assert (late.usage.completion_tokens, late.choices[0].finish_reason) == (8, "stop")
    assert (never.usage.completion_tokens, never.choices[0].finish_reason) == (12, "length")
    assert late.choices[0].message.content
    assert never.choices[0].message.content == ""


def test_a_token_of_ones_own_ends_the_answer_and_is_named(client: openai.OpenAI) -> None:
    answer = ask(client, logit_bias={"30": 100}, logprobs=True, extra_body={"stop_token_ids": [30]})
    [token] = content_of(answer)

    assert answer.choices[0].message.content == ""
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].to_dict()["stop_reason"] == 30
    assert token.token


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"49152": 1}}, "logit_bias"),
        ({"extra_body": {"stop_token_ids": [49152]}}, "stop_token_ids"),
        ({"max_completion_tokens": None, "extra_body": {"min_tokens": 4096}}, "min_tokens"),
        ({"n": 2}, "n"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, **fields)
    assert refused.value.param == param

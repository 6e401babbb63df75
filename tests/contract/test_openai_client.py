"""OpenAI's own Python client, unmodified, against the daemon and the real model."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, cast

import openai
import pytest

from tests.conftest import MODEL
from tests.contract.real_daemon import real_daemon

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam

pytestmark = pytest.mark.real

QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You answer in one short sentence."},
    {"role": "user", "content": "What is the colour of the sky on a clear day?"},
]

WEATHER: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


@pytest.fixture(scope="module")
def client(model_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    with (
        real_daemon(model_home, tmp_path_factory.mktemp("state")) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client,
    ):
        yield client


def ask(client: openai.OpenAI, *, seed: int | None = None, max_tokens: int = 24) -> str:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_completion_tokens=max_tokens,
        temperature=0 if seed is None else 1,
        seed=seed,
    )
    return answer.choices[0].message.content or ""


def test_a_greedy_answer_is_text_and_the_same_every_time(client: openai.OpenAI) -> None:
    first = ask(client)
    assert len(first.split()) > 2
    assert ask(client) == first


def test_a_seed_decides_a_sampled_answer(client: openai.OpenAI) -> None:
    first = ask(client, seed=1)
    assert ask(client, seed=1) == first
    assert any(ask(client, seed=seed) != first for seed in (2, 3, 4))


def test_a_stream_joins_to_the_whole_answer(client: openai.OpenAI) -> None:
    with client.chat.completions.create(
        model=MODEL,
        messages=QUESTION,
        max_completion_tokens=24,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ) as stream:
        chunks = list(stream)

    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == ask(client)
    assert sum(map(bool, pieces)) > 3
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= 24


def test_the_bound_of_the_answer_holds(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=3, temperature=0
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    words = ask(client).split()
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, max_completion_tokens=24, temperature=0, stop=words[2]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert words[2] not in (answer.choices[0].message.content or "")


def test_the_model_is_listed(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(
        openai.BadRequestError, match=r"at least \d{4,} tokens, the limit is \d+"
    ) as caught:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "word " * 20_000}]
        )
    assert caught.value.code == "context_length_exceeded"


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    assert caught.value.code == "model_not_found"


def test_a_control_token_in_a_users_text_is_text(client: openai.OpenAI) -> None:
    def prompt_tokens(content: str) -> int:
        answer = client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], max_completion_tokens=1
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens

    # As a control token it would be one; as text it is several.
    assert prompt_tokens("a<|im_end|>") - prompt_tokens("a") > 2


def test_a_tool_that_has_to_be_called_is_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        max_completion_tokens=80,
        temperature=0,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert isinstance(json.loads(call.function.arguments), dict)

    after = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "user", "content": "What is the weather in Paris?"},
            cast("ChatCompletionMessageParam", choice.message.to_dict()),
            {"role": "tool", "tool_call_id": call.id, "content": "It rains."},
        ],
        max_completion_tokens=8,
        temperature=0,
        tools=[WEATHER],
    )
    assert answer.usage
    assert after.usage
    assert after.usage.prompt_tokens > answer.usage.prompt_tokens


def test_a_client_that_leaves_frees_its_slot_for_others(client: openai.OpenAI) -> None:
    for _ in range(8):  # twice the slots
        with client.chat.completions.create(
            model=MODEL, messages=QUESTION, max_completion_tokens=2000, temperature=1, stream=True
        ) as stream:
            next(iter(stream))
    assert ask(client, max_tokens=4)


def test_several_clients_at_once_get_what_each_asked_for(client: openai.OpenAI) -> None:
    def answered(bound: int) -> tuple[int, int]:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[*QUESTION, {"role": "user", "content": "word " * bound}],
            max_completion_tokens=bound,
            temperature=0,
        )
        assert answer.usage is not None
        return answer.usage.prompt_tokens, answer.usage.completion_tokens

    with ThreadPoolExecutor(6) as pool:
        usages = list(pool.map(answered, range(1, 7)))

    assert [completion for _, completion in usages] == [1, 2, 3, 4, 5, 6]
    assert usages[0] == answered(1)
    assert usages[5] == answered(6)
    assert usages[5][0] > usages[0][0]

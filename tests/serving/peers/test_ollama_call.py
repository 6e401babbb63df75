"""All that a request says is in the body that goes to Ollama."""

from __future__ import annotations

import pytest

from edge_agent.messages import Sampling, ToolMode
from edge_agent.serving.peers.ollama_call import body, context_for
from tests.serving.peers.house import QUESTION, request
from tests.serving.peers.test_openai_call import LIGHT, SAMPLING, TALK


def test_what_is_left_open_stays_out() -> None:
    assert body(request(max_tokens=None), model="m", context_tokens=None) == {
        "model": "m",
        "messages": [{"role": "user", "content": QUESTION}],
        "stream": True,
        "truncate": False,
        "shift": False,
        "think": False,
        "options": {"num_predict": -1},
    }


def test_every_option_has_its_name_there() -> None:
    asked = request(sampling=SAMPLING, max_tokens=9, stop=("END",))
    assert body(asked, model="m", context_tokens=4096)["options"] == {
        "num_ctx": 4096,
        "num_predict": 9,
        "temperature": 0.5,
        "top_k": 40,
        "top_p": 0.9,
        "min_p": 0.05,
        "repeat_penalty": 1.1,
        "repeat_last_n": 65536,
        "presence_penalty": 0.2,
        "frequency_penalty": -0.3,
        "seed": 0x7FFFFFFE,
        "stop": ["END"],
    }


def test_greedy_is_greedy() -> None:
    asked = request(sampling=Sampling(temperature=0, top_k=0, seed=0))
    options = body(asked, model="m", context_tokens=None)["options"]
    assert (options["temperature"], options["top_k"], options["seed"]) == (0, 0, 0)


def test_calls_and_results_are_told_in_its_terms() -> None:
    sent = body(request(messages=TALK, tools=(LIGHT,)), model="m", context_tokens=None)
    _, _, call, result = sent["messages"]
    function = {"name": "light", "arguments": {"on": True}}
    assert call["tool_calls"] == [{"id": "c1", "function": function}]
    assert (result["tool_call_id"], result["tool_name"]) == ("c1", "light")
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["light"]


def test_who_may_not_call_is_told_of_no_tools() -> None:
    asked = request(tools=(LIGHT,), tool_choice=ToolMode.NONE)
    assert "tools" not in body(asked, model="m", context_tokens=None)


@pytest.mark.parametrize("keep_alive_s", [0, 300.0, -1])
def test_how_long_to_keep_the_model_is_passed_on(keep_alive_s: float) -> None:
    sent = body(request(keep_alive_s=keep_alive_s), model="m", context_tokens=None)
    assert sent["keep_alive"] == keep_alive_s


@pytest.mark.parametrize(
    ("needed", "fixed", "loaded", "most", "context"),
    [
        (9000, 4096, 16384, 131072, 4096),  # the operator knows
        (700, None, 8192, 131072, 8192),  # as it is loaded: nothing is loaded again
        (8192, None, 8192, 131072, 8192),
        (8193, None, 8192, 131072, 16384),
        (700, None, None, 131072, 4096),
        (700, None, None, 2048, 2048),
        (200_000, None, 8192, 131072, 131072),
        (5000, None, None, None, 8192),
    ],
)
def test_the_context_is_as_long_as_needed_and_as_constant_as_can_be(
    needed: int, fixed: int | None, loaded: int | None, most: int | None, context: int
) -> None:
    assert context_for(needed, fixed=fixed, loaded=loaded, most=most) == context


@pytest.mark.parametrize(("asked", "sent"), [(0.0, 0), (0.2, 1), (300.0, 300), (-1.0, -1)])
def test_how_long_it_stays_loaded_is_told_in_whole_seconds(asked: float, sent: int) -> None:
    tree = body(request(keep_alive_s=asked), model="m", context_tokens=4096)
    assert tree["keep_alive"] == sent
    assert isinstance(tree["keep_alive"], int)

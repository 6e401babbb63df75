"""Requests become ids that fit, with the package's defaults and the offered tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.engine.adjustments import Late
from edge_agent.engine.prepare import MOST_LOGPROBS, Preparer
from edge_agent.errors import InvalidRequest, PromptTooLong
from edge_agent.messages import Message, NamedTool, Request, Role, Sampling, Tool, ToolMode
from edge_agent.modelstore.manifest import FORMAT, Manifest, Quantization, Rope, Shape
from tests.text import o200k
from tests.text.templates import PHI

if TYPE_CHECKING:
    from pathlib import Path

END = o200k.CONTROL["<|end|>"]
TOOLS = (Tool(name="f"), Tool(name="g"))
MANIFEST = Manifest(
    format=FORMAT,
    name="phi",
    family="phi3",
    context=4096,
    shape=Shape(
        layers=1, hidden=1, heads=1, kv_heads=1, head_dim=1, intermediate=1, vocab=o200k.VOCAB,
        norm_eps=1e-5,
    ),
    rope=Rope(theta=1e4, dims=2, original_context=4096),
    quantization=Quantization(bits=4, block=32, head_bits=8, head_block=32, activations="exact"),
    graphs={},
    stop_token_ids=(END, o200k.CONTROL["<|endoftext|>"]),
    sampling=Sampling(temperature=0.5, top_p=0.9),
    licence="MIT",
    source="here",
    created=0,
    files={},
)  # fmt: skip


@pytest.fixture(scope="module")
def preparer(tmp_path_factory: pytest.TempPathFactory) -> Preparer:
    package: Path = tmp_path_factory.mktemp("package")
    (package / "tokenizer.json").symlink_to(o200k.path())
    (package / "chat_template.jinja").write_text(PHI)
    return Preparer(package, MANIFEST, context=64)


def ask(content: str = "Hi", **fields: Any) -> Request:
    return Request(id="r", messages=(Message(role=Role.USER, content=content),), **fields)


def test_a_prompt_is_rendered_and_stops_where_the_package_says(preparer: Preparer) -> None:
    prepared = preparer.prepare(ask())

    assert prepared.prompt == [200021, 12194, END, 200019]
    assert prepared.stop_ids == {200020, 199999}
    assert prepared.max_tokens == 60
    assert prepared.offer is None


def test_what_a_request_leaves_open_the_package_decides(preparer: Preparer) -> None:
    sampling = preparer.prepare(ask(sampling=Sampling(temperature=0, seed=3))).sampling

    assert sampling == Sampling(temperature=0, top_p=0.9, seed=3)


@pytest.mark.parametrize(("max_tokens", "expected"), [(None, 60), (5, 5), (999, 60)])
def test_an_answer_fits_the_context(
    preparer: Preparer, max_tokens: int | None, expected: int
) -> None:
    assert preparer.prepare(ask(max_tokens=max_tokens)).max_tokens == expected


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers(preparer: Preparer) -> None:
    with pytest.raises(PromptTooLong, match="prompt is 64 tokens, the limit is 63"):
        preparer.prepare(ask("a " * 60))


def test_a_prompt_far_too_long_is_not_read_to_its_end(preparer: Preparer) -> None:
    with pytest.raises(PromptTooLong) as refused:
        preparer.prepare(ask("word " * 100_000))
    assert 63 < refused.value.prompt_tokens < 10_000
    assert "at least" in str(refused.value)


def test_tools_are_offered_with_the_tags_the_vocabulary_has(preparer: Preparer) -> None:
    offer = preparer.prepare(ask(tools=TOOLS, parallel_tool_calls=False)).offer

    assert offer
    assert list(offer.names) == ["f", "g"]
    assert offer.tags == {200025: b"<|tool_call|>", 200026: b"<|/tool_call|>"}
    assert not offer.many
    assert offer.opening == ""


def test_tools_that_may_not_be_called_are_not_there(preparer: Preparer) -> None:
    assert preparer.prepare(ask(tools=TOOLS, tool_choice=ToolMode.NONE)) == preparer.prepare(ask())


def test_a_tool_that_has_to_be_called_begins_the_answer(preparer: Preparer) -> None:
    prepared = preparer.prepare(ask(tools=TOOLS, tool_choice=NamedTool("g")))

    assert prepared.offer
    assert prepared.offer.opening == '<|tool_call|>[{"name": "g", "arguments":'
    opening = [200019, 200025, *preparer.tokenizer.encode('[{"name": "g", "arguments":')]
    assert prepared.prompt[-len(opening) :] == opening


def test_a_request_that_says_nothing_of_tokens_has_none_of_its_own(preparer: Preparer) -> None:
    prepared = preparer.prepare(ask())

    assert (prepared.logprobs, prepared.late, prepared.own_stop_ids) == (None, None, frozenset())
    assert prepared.bias == {}


def test_end_tokens_are_added_and_ignored(preparer: Preparer) -> None:
    own: dict[str, Any] = {"stop_token_ids": (5, 5, 200020)}

    assert preparer.prepare(ask(**own)).stop_ids == {5, 200020, 199999}
    assert preparer.prepare(ask(**own, ignore_eos=True)).stop_ids == {5, 200020}
    assert preparer.prepare(ask(**own)).own_stop_ids == {5, 200020}


@pytest.mark.parametrize("ignore_eos", [False, True])
def test_what_may_end_an_answer_comes_late(preparer: Preparer, ignore_eos: bool) -> None:
    request = ask(stop_token_ids=(5,), min_tokens=7, ignore_eos=ignore_eos)

    assert preparer.prepare(request).late == Late(ids={5, 200020, 199999}, min_tokens=7)


@pytest.mark.parametrize(
    ("fields", "param", "sentence"),
    [
        ({"logit_bias": {o200k.VOCAB: 1.0}}, "logit_bias", "200064 is none of the model's 200064"),
        ({"stop_token_ids": (0, -1)}, "stop_token_ids", "-1 is none of the model's 200064"),
        ({"min_tokens": 61}, "min_tokens", "61 tokens, and there is room for 60"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens", "6 tokens, and there is room for 5"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    preparer: Preparer, fields: dict[str, Any], param: str, sentence: str
) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as refused:
        preparer.prepare(ask(**fields))
    assert refused.value.param == param


def test_tokens_are_spelled_for_their_logprobs(preparer: Preparer) -> None:
    asked = preparer.prepare(ask(logprobs=2)).logprobs

    assert asked
    assert asked.num_top == 2
    [part, *_] = preparer.tokenizer.encode("🦙")
    assert asked.spell(preparer.tokenizer.encode("Hi")[0]) == ("Hi", b"Hi")
    assert asked.spell(part) == ("\ufffd", "🦙".encode()[: len(preparer.tokenizer.bytes_of(part))])
    assert asked.spell(END) == ("<|end|>", None)


def test_logprobs_of_one_answer_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").symlink_to(o200k.path())
    (tmp_path / "chat_template.jinja").write_text(PHI)
    preparer = Preparer(tmp_path, MANIFEST, context=131_072)
    most = MOST_LOGPROBS // 21

    assert preparer.prepare(ask(logprobs=20)).max_tokens == most
    assert preparer.prepare(ask(logprobs=20, max_tokens=most)).max_tokens == most
    assert preparer.prepare(ask(logprobs=0, max_tokens=131_000)).max_tokens == 131_000
    with pytest.raises(InvalidRequest, match=f"max_tokens: at most {most} tokens"):
        preparer.prepare(ask(logprobs=20, max_tokens=most + 1))


@pytest.mark.parametrize("system", [None, "Look after valves."])
@pytest.mark.parametrize("tools", [(), TOOLS], ids=["none", "tools"])
def test_a_beginning_is_all_that_prompts_with_it_have_before_the_question(
    preparer: Preparer, system: str | None, tools: tuple[Tool, ...]
) -> None:
    before = () if system is None else (Message(role=Role.SYSTEM, content=system),)
    beginning = preparer.beginning(system, tools)

    for question in ("Hi", "Why?"):
        messages = (*before, Message(role=Role.USER, content=question))
        prompt = preparer.prepare(Request(id="r", messages=messages, tools=tools)).prompt
        # Then the question, the end of it, and the assistant.
        assert prompt[: len(beginning)] == beginning
        assert prompt[-2:] == [END, 200019]
        assert len(prompt) - len(beginning) == len(preparer.prepare(ask(question)).prompt) - 1

"""What Ollama is known to put on the wire, and what we make of it.

No server of Ollama's is at hand. The shapes are those of its handlers (`server/routes.go`,
`api/types.go`, `llm/server.go`, versions 0.5 to 0.40) and of recordings of 0.12.5 to 0.40.2 that
others have published; names, texts and numbers are ours.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_agent.messages import Answer, Delta, Failed, FinishReason, Tool, ToolCall, Usage
from edge_agent.serving.peers.trouble import Kind, by_status
from tests.serving.peers.double import MODEL, Double, Fault
from tests.serving.peers.house import house, outcome, request, settings

AT = {"model": MODEL, "created_at": "2026-09-17T15:42:59.5670387Z"}
TOOLS = (Tool(name="light"), Tool(name="blind"))


def line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    said = {"message": {"role": "assistant", "content": "", **(message or {})}}
    return json.dumps({**AT, **said, "done": False, **fields}).encode() + b"\n"


def done(reason: str = "stop", **fields: Any) -> bytes:
    durations = {"total_duration": 30_258_609_300, "load_duration": 19_906_358_300}
    counts = {"prompt_eval_count": 29, "eval_count": 3, "eval_duration": 173_639_000}
    return line(**{"done": True, "done_reason": reason, **durations, **counts, **fields})


async def answered(*lines: bytes, **fields: Any) -> Answer | Failed:
    async with Double("ollama") as double, house(settings(double.url, "ollama")) as peers:
        double.fault = Fault(pieces=list(lines))
        return await outcome(peers, request(**fields))


async def test_an_answer_of_0_34_counts_what_it_knew_of_the_prompt() -> None:
    last = await answered(
        line({"content": "Hello"}), line({"content": "."}), done(prompt_eval_cached_count=20)
    )
    assert isinstance(last, Answer)
    assert last.text == "Hello."
    assert last.done.finish_reason is FinishReason.STOP
    assert last.done.usage == Usage(prompt_tokens=29, completion_tokens=3, cached_tokens=20)


async def test_an_answer_of_old_has_no_reason_and_null_where_nothing_is() -> None:
    last = await answered(
        line({"content": "Hello", "images": None}),
        json.dumps({**AT, "done": True, "prompt_eval_count": 29, "eval_count": 3}).encode() + b"\n",
    )
    assert isinstance(last, Answer)
    assert (last.text, last.done.finish_reason) == ("Hello", FinishReason.STOP)


@pytest.mark.parametrize(("reason", "is_answer"), [("length", True), ("", True), ("load", False)])
async def test_reasons(reason: str, *, is_answer: bool) -> None:
    last = await answered(line({"content": "Hello"}), done(reason))
    assert isinstance(last, Answer) is is_answer
    if isinstance(last, Answer):
        cut = last.done.finish_reason is FinishReason.LENGTH
        assert cut is (reason == "length")


async def test_thoughts_are_told_apart_from_the_answer() -> None:
    last = await answered(line({"thinking": "They greet me."}), line({"content": "Hello."}), done())
    assert isinstance(last, Answer)
    assert last.text == "Hello."


def call(index: int, name: str, arguments: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**fields, "function": {"index": index, "name": name, "arguments": arguments}}


@pytest.mark.parametrize("is_last", [False, True])
async def test_calls_come_whole_with_objects_for_arguments(*, is_last: bool) -> None:
    calls = {
        "tool_calls": [
            call(0, "light", {"on": True}, id="call_a1b2c3d4"),
            call(1, "blind", {}, id="call_e5f6g7h8"),
        ]
    }
    lines = [done(message={**AT, **calls})] if is_last else [line(calls), done()]
    last = await answered(*lines, tools=TOOLS)
    assert isinstance(last, Answer)
    assert last.tool_calls == (
        ToolCall(id="call_a1b2c3d4", name="light", arguments='{"on":true}'),
        ToolCall(id="call_e5f6g7h8", name="blind", arguments="{}"),
    )
    assert last.done.finish_reason is FinishReason.TOOL_CALLS


async def test_calls_of_versions_before_ids_and_indices_get_an_id() -> None:
    made = {"tool_calls": [{"function": {"name": "light", "arguments": {"on": True}}}]}
    last = await answered(line(made), done(), tools=TOOLS)
    assert isinstance(last, Answer)
    assert last.tool_calls[0].id.startswith("call_")


async def test_what_its_parser_misses_comes_as_text_and_is_found() -> None:
    """It looks for calls as the template of a model writes them, and models write others."""
    words = ("<|tool_call|>", '[{"name": "light", "arguments"', ': {"on": true}}]<|/tool_call|>')
    last = await answered(*(line({"content": word}) for word in words), done(), tools=TOOLS)
    assert isinstance(last, Answer)
    assert [made.name for made in last.tool_calls] == ["light"]
    assert last.text == ""


@pytest.mark.parametrize("more", [{}, {"status": 500}])
async def test_an_error_in_the_stream_ends_it(more: dict[str, int]) -> None:
    """Newer versions give one before the first piece a status; later it is a line of its own."""
    error = {"error": "an error was encountered while running the model", **more}
    async with Double("ollama") as double, house(settings(double.url, "ollama")) as peers:
        double.fault = Fault(pieces=[line({"content": "a"}), json.dumps(error).encode() + b"\n"])
        asked = request()
        told = [event async for event in peers.stream(asked, peers.candidates(asked), None)]
    assert Delta("a") in told
    last = told[-1]
    assert isinstance(last, Failed)
    assert "reports an error: an error was encountered while running the model" in last.message


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, "registry.ollama.ai/library/phi:latest does not support tools", Kind.UNFIT),
        (400, '"embed" does not support chat', Kind.WRONG),
        (400, "model is required", Kind.REFUSED),
        (404, "model 'phi' not found", Kind.WRONG),
        (404, 'model "phi" not found, try pulling it first', Kind.WRONG),
        (500, "model requires more system memory (5.5 GiB) than is available (2 GiB)", Kind.WRONG),
        (500, "llama runner process has terminated: signal: killed", Kind.WRONG),
        (503, "server busy, please try again.  maximum pending requests exceeded", Kind.BUSY),
        (400, "the input length exceeds the context length", Kind.UNFIT),
    ],
)
def test_statuses(status: int, error: str, kind: Kind) -> None:
    trouble = by_status("attic", status, json.dumps({"error": error}).encode(), None)
    assert trouble.kind is kind

"""Streams over HTTP, as a server of OpenAI's protocol sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.bench.runners.openai import OpenAi, question
from tests.bench.runners.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.bench.runners.server import Server

TASK = Task(kind="streams", tokens=32, new_tokens=30, streams=3)


class ScriptedServer:
    """Sends two tokens in a piece, ten pieces a second, then what it counted."""

    def __init__(self, *, short_by: int = 0) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self._short_by = short_by

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        self.asked.append(body)
        yield 0.0, {"choices": [{"delta": {"role": "assistant"}}]}
        for number in range(body["max_tokens"] // 2):
            yield number / 10, {"choices": [{"delta": {"content": "two words"}}]}
        usage = {"completion_tokens": body["max_tokens"] - self._short_by}
        yield 9.9, {"choices": [], "usage": usage}


def runner_of(server: ScriptedServer) -> OpenAi:
    return OpenAi(cast("Server", server), "small", {})


def test_tokens_are_counted_where_pieces_hold_several() -> None:
    assert runner_of(ScriptedServer()).run(TASK)["tok_s"] == pytest.approx(60.0)


def test_every_conversation_is_another_one() -> None:
    server = ScriptedServer()
    runner_of(server).run(TASK)
    texts = [body["messages"][0]["content"] for body in server.asked]
    assert len(set(texts)) == len(texts) == 6  # three to warm up, three timed


def test_an_answer_that_stopped_early_is_no_figure() -> None:
    with pytest.raises(RuntimeError, match="instead of"):
        runner_of(ScriptedServer(short_by=1)).run(TASK)


def test_nothing_else_is_timed_over_http() -> None:
    with pytest.raises(ValueError, match="decode"):
        runner_of(ScriptedServer()).run(Task(kind="decode"))


def test_a_question_is_about_as_long_as_asked() -> None:
    assert 128 <= len(question(5, 128).split()) <= 132

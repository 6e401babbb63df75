"""What llama.cpp's server is asked, and how its answers are read."""

from __future__ import annotations

import os
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.bench.runners.llama import LlamaCpp, command, distribution
from tests.bench.runners.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.bench.runners.server import Server

OPTIONS = {
    "server": "/bin/llama-server",
    "model": "m.gguf",
    "context": 2560,
    "slots": 4,
    "threads": 2,
    "kv_dtype": "q8_0",
}


class ScriptedServer:
    """Answers as the real one: 50 tokens a second are read, 10 written."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, Any]] = []
        self.process = SimpleNamespace(pid=os.getpid())
        self.short_by = 0

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(body)
        written = body["n_predict"] - self.short_by
        speeds = {"prompt_ms": 20.0 * len(body["prompt"]), "predicted_per_second": 10.0}
        return {"timings": {"predicted_n": written, **speeds}}

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
        self.asked.append(body)
        for number in range(body["n_predict"]):
            yield number / 10, {"tokens": [7]}
        yield body["n_predict"] / 10, {"tokens": [], "stop": True}


@pytest.fixture
def server() -> ScriptedServer:
    return ScriptedServer()


@pytest.fixture
def runner(server: ScriptedServer) -> LlamaCpp:
    return LlamaCpp(cast("Server", server), {})


def test_every_slot_has_the_whole_context() -> None:
    argv = command(OPTIONS, 8080)
    told = dict(pairwise(argv))
    assert (told["-np"], told["-c"], told["-t"], told["-tb"]) == ("4", "10240", "2", "2")
    assert (told["-ctk"], told["-ctv"], told["-fa"]) == ("q8_0", "q8_0", "on")


def test_a_server_out_of_a_python_package_has_its_version(tmp_path: Path) -> None:
    folder = tmp_path / "site-packages"
    (folder / "built_bin-11.2.0.dist-info").mkdir(parents=True)
    assert distribution(folder / "built_bin" / "bin" / "llama-server") == "built_bin-11.2.0"
    assert distribution(tmp_path / "llama-server") is None


def test_prompts_are_read_anew_each_time(runner: LlamaCpp, server: ScriptedServer) -> None:
    figures = runner.run(Task(kind="prefill", tokens=40, reps=3))
    assert figures == {"tok_s": 50.0}
    warm_up, *timed = server.asked
    assert len(warm_up["prompt"]) < 40
    assert len({tuple(body["prompt"]) for body in timed}) == 3


def test_decoding_goes_on_behind_the_same_prompt(runner: LlamaCpp, server: ScriptedServer) -> None:
    assert runner.run(Task(kind="decode", tokens=40, new_tokens=5, reps=2)) == {"tok_s": 10.0}
    _, first, second = server.asked
    assert first["prompt"] == second["prompt"]
    assert (first["n_predict"], first["cache_prompt"]) == (6, True)


def test_streams_are_timed_as_they_arrive(runner: LlamaCpp) -> None:
    figures = runner.run(Task(kind="streams", tokens=40, new_tokens=20, streams=4))
    assert figures["tok_s"] == pytest.approx(40.0)


def test_the_known_prompt_keeps_its_beginning(runner: LlamaCpp, server: ScriptedServer) -> None:
    runner.run(Task(kind="ttft", tokens=40, tail=8))
    _, cold, warm = server.asked
    assert cold["prompt"][:40] == warm["prompt"][:40]
    assert cold["prompt"][40:] != warm["prompt"][40:]


def test_memory_is_told_before_and_after_a_prompt(runner: LlamaCpp, server: ScriptedServer) -> None:
    figures = runner.run(Task(kind="memory", tokens=40))
    assert len(server.asked) == 1
    assert figures["read_peak_rss_mb"] >= figures["loaded_rss_anon_mb"] > 0


def test_an_answer_that_stopped_early_is_no_figure(
    runner: LlamaCpp, server: ScriptedServer
) -> None:
    server.short_by = 1
    with pytest.raises(RuntimeError, match="wrote 0 tokens instead of 1"):
        runner.run(Task(kind="decode", tokens=40, new_tokens=5))

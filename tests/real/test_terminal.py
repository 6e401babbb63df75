"""`ask` and `bench`, as a person types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real


def edge_agent(
    home: Path, *words: str, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *words],
        env={**os.environ, "EDGE_AGENT_HOME": str(home), "EDGE_AGENT_ENGINE__CONTEXT": "512"},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_ask_prints_the_answer_and_its_figures_apart(model_home: Path) -> None:
    asked = edge_agent(model_home, "ask", "What is the capital of France?", "--temperature", "0")

    assert (asked.returncode, asked.stdout) == (0, "The capital of France is Paris.\n")
    assert "37 tokens read" in asked.stderr
    assert "ended by stop" in asked.stderr


def test_ask_reads_a_prompt_from_standard_input(model_home: Path) -> None:
    words = ("ask", "-", "--system", "Answer with one word.", "--max-tokens", "3", "--seed", "1")
    asked = edge_agent(model_home, *words, stdin="Say yes.")

    assert asked.returncode == 0
    assert "written" in asked.stderr


def test_ask_refuses_what_does_not_fit_in_one_line(model_home: Path) -> None:
    asked = edge_agent(model_home, "ask", "word " * 600)

    assert asked.returncode == 1
    assert asked.stdout == ""
    assert "the limit is 511" in asked.stderr
    assert len(asked.stderr.splitlines()) == 1


def test_ask_without_the_model_says_what_to_do(tmp_path: Path) -> None:
    asked = edge_agent(tmp_path, "ask", "hi")

    assert asked.returncode == 1
    assert "smollm2-135m-instruct" in asked.stderr
    assert "edge-agent model pull" in asked.stderr


def test_bench_prints_one_object_with_every_figure(model_home: Path) -> None:
    benched = edge_agent(model_home, "bench", "--json", "--reps", "1", "--threads", "2")

    assert benched.returncode == 0
    figures = json.loads(benched.stdout)
    assert (figures["model"], figures["threads"]) == ("smollm2-135m-instruct", 2)
    assert figures["prefill_tok_s"].keys() == {"128", "512"}
    assert figures["decode_tok_s"].keys() == {"1", "2", "4", "8"}
    numbers = [*figures["prefill_tok_s"].values(), *figures["decode_tok_s"].values()]
    assert all(number > 0 for number in numbers)
    assert all(figures[key] > 0 for key in ("load_s", "ttft_ms", "rss_anon_mb", "rss_file_mb"))
    assert figures["peak_rss_mb"] >= figures["rss_anon_mb"]

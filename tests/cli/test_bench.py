"""What `bench` takes and prints; and, on a package of noise, that it measures at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_agent.cli import bench, main
from edge_agent.cli.perplexity import losses_of
from edge_agent.cli.random_weights import cache_dir

if TYPE_CHECKING:
    from pathlib import Path

FIGURES = {
    "model": "tiny",
    "load_s": 0.5,
    "ttft_ms": 120.5,
    "prefill_tok_s": {"128": 900.0, "512": 850.5},
    "memory_gb_s": 28.5,
    "peak_rss_mb": 400,
}
CARD = """
name: tiny
title: A card that tells its dimensions
family: noise
licence: none
source: {type: file, path: /nowhere/model.gguf}
package_bytes: 1000000
shape:
  {layers: 1, hidden: 128, heads: 2, kv_heads: 1, head_dim: 64, intermediate: 256, vocab: 1024,
   norm_eps: 1.0e-5}
rope: {theta: 10000.0, dims: 64, original_context: 512}
context: 512
precision: {bits: 4, block: 32, head_bits: 8, activations: int8}
"""


def test_the_table_has_a_line_for_every_figure_and_its_unit() -> None:
    lines = bench._table(FIGURES).splitlines()
    assert [line.split() for line in lines] == [
        ["model", "tiny"],
        ["load", "0.5", "s"],
        ["ttft", "120.5", "ms"],
        ["prefill,", "128", "900.0", "tok/s"],
        ["prefill,", "512", "850.5", "tok/s"],
        ["memory", "28.5", "GB/s"],
        ["peak", "rss", "400", "MB"],
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--reps", "0"),
        ("--reps", "many"),
        ("--prompts", "128,-1"),
        ("--streams", ""),
        ("--window", "1"),
        ("--kv-dtype", "fp8"),
    ],
)
def test_a_wrong_option_is_refused_by_name(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["bench", option, value])
    assert option in capsys.readouterr().err


def test_the_cache_of_noise_is_where_caches_are() -> None:
    assert cache_dir({"XDG_CACHE_HOME": "/c"}).as_posix() == "/c/edge-agent/random-weights"
    assert cache_dir({"HOME": "/h"}).as_posix() == "/h/.cache/edge-agent/random-weights"


def test_losses_are_those_of_a_softmax_in_double_precision() -> None:
    logits = np.random.default_rng(1).normal(0, 8, (5, 1000)).astype(np.float32)
    targets = [3, 1, 4, 1, 999]
    wide = logits.astype(np.float64)
    expected = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(5), targets]
    np.testing.assert_allclose(losses_of(logits, targets), expected, rtol=1e-6)


def test_losses_stay_finite_where_exp_would_not() -> None:
    logits = np.array([[3e4, 0.0, -3e4]], np.float32)
    assert losses_of(logits, [2])[0] == pytest.approx(6e4)


def edge_agent(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (home / "cards").mkdir(parents=True, exist_ok=True)
    (home / "cards" / "tiny.yaml").write_text(CARD)
    environ = {**os.environ, "EDGE_AGENT_HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def bench_noise(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return edge_agent(
        home, "bench", "--random-weights", "tiny", "--threads", "1", "--json", *options
    )


@pytest.mark.real
def test_noise_of_a_cards_shape_is_made_once_and_timed(tmp_path: Path) -> None:
    quick = ("--reps", "1", "--prompts", "16", "--streams", "1,2", "--depth", "16", "--tokens", "4")
    made = bench_noise(tmp_path, *quick)
    assert made.returncode == 0, made.stderr
    figures = json.loads(made.stdout)
    assert figures["model"] == "tiny-noise-4-32-8"
    assert set(figures["decode_tok_s"]) == {"1", "2"}
    assert figures["prefill_tok_s"]["16"] > 0
    stages = [figures[f"step_{name}_ms"]["2"] for name in ("plan", "pack", "bind", "sample", "hop")]
    assert min(stages) > 0
    assert sum(stages) < figures["step_outside_ms"]["2"] + 0.01
    assert figures["step_run_ms"]["2"] > 0
    assert figures["bandwidth_share"]["1"] > 0
    assert "making" in made.stderr
    again = bench_noise(tmp_path, *quick, "--kv-dtype", "fp16")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["kv_dtype"] == "fp16"
    assert "making" not in again.stderr


@pytest.mark.real
def test_noise_is_as_surprising_as_its_vocabulary(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 40)
    done = bench_noise(tmp_path, "--perplexity", str(text), "--window", "64")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["scored_tokens"] % 31 == 0
    assert 300 < figures["perplexity"] < 5000


@pytest.mark.real
@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"short", "less than one window"), (b"\xff\xfe" * 900, "utf-8"), (None, "No such file")],
)
def test_a_text_that_cannot_be_measured_is_named(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    text = tmp_path / "text.txt"
    if content is not None:
        text.write_bytes(content)
    done = bench_noise(tmp_path, "--perplexity", str(text))
    assert done.returncode == 1
    assert problem in done.stderr
    assert str(text) in done.stderr


def test_a_card_without_dimensions_cannot_be_noise(tmp_path: Path) -> None:
    done = edge_agent(tmp_path, "bench", "--random-weights", "smollm2-135m-instruct")
    assert done.returncode == 1
    assert "does not tell its dimensions" in done.stderr

"""Where the time of a step goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from edge_agent.modelstore.manifest import write_manifest
from tests.bench.operators import Measure, Spent, by_operator, main, profiles, table
from tests.importers.tiny_decoder import SHAPE, TinyDecoder

if TYPE_CHECKING:
    from pathlib import Path


def run(ts: int, dur: int) -> dict[str, Any]:
    return {"cat": "Session", "name": "model_run", "ts": ts, "dur": dur, "args": {}}


def node(ts: int, dur: int, operator: str, name: str) -> dict[str, Any]:
    args = {"op_name": operator}
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "args": args}


def write(tiny: TinyDecoder, package: Path) -> None:
    manifest, _ = tiny.write(package)
    write_manifest(package, manifest)


def test_kernels_of_the_chosen_runs_are_summed_by_operator_and_weight() -> None:
    events = [
        run(0, 100),
        node(10, 90, "Mul", "layers.0.gated"),
        run(100, 100),
        node(110, 20, "MatMulNBits", "layers.0.qkv"),
        node(130, 30, "MatMulNBits", "layers.11.qkv"),
        node(160, 5, "MatMulNBits", "logits"),
        node(165, 8, "Mul", "layers.0.gated"),
        node(110, 90, "If", "by_tokens"),
        run(200, 300),
        node(210, 50, "MatMulNBits", "layers.0.qkv"),
    ]

    assert by_operator(events, range(1, 3)) == [
        Spent("run", 0.2, 1),
        Spent("MatMulNBits layers.N.qkv", 0.05, 1.5),
        Spent("Mul", 0.004, 0.5),
        Spent("MatMulNBits logits", 0.0025, 0.5),
    ]


def test_runs_that_are_missing_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 runs, not 2"):
        by_operator([run(0, 1)], range(2))


@pytest.mark.parametrize("activations", ["int8", "exact"])
def test_a_package_is_profiled_by_onnxruntime(tmp_path: Path, activations: Any) -> None:
    write(TinyDecoder(activations=activations), tmp_path)
    measures = [Measure(rows=2, tokens=1, past=3), Measure(rows=1, tokens=16, past=0)]

    found = list(profiles(tmp_path, measures, threads=1, steps=3))

    for spent in found:
        attention = next(each for each in spent if each.operator == "GroupQueryAttention")
        assert attention.nodes == SHAPE.layers
        assert spent[0].operator == "run"
        assert sum(each.ms for each in spent[1:]) <= spent[0].ms


def test_the_command_prints_a_table_of_each_kind_of_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(TinyDecoder(), tmp_path)

    assert main([str(tmp_path), "--rows=1,2", "--prompts=16", "--depth=4", "--steps=2"]) == 0

    told = capsys.readouterr().out
    assert all(said in told for said in ("1 rows at 4", "2 rows at 4", "a prompt of 16"))
    assert "GroupQueryAttention" in told


def test_a_table_has_a_line_for_each_operator() -> None:
    assert table([Spent("Mul", 1.25, 32)], "1 rows at 128") == (
        "1 rows at 128: ms of a step, nodes\n     1.250    32  Mul"
    )

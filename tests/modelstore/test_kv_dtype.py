"""What the KV cache stores: by memory, context, and what a package has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Engine
from edge_agent.modelstore.kv_dtype import choose, judge_of, settle, usable_kinds
from edge_agent.modelstore.scales import OWN_SCALES, SCALES
from tests.modelstore.plain_package import write_package
from tests.modelstore.test_fit import int4
from tests.shapes import PHI

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.kv_dtype import Judge

GIB = 1 << 30
ALL = ("fp32", "fp16", "int8")


def phi(free_bytes: int, *, slots: int = 1, context: int = 4096, chunk_tokens: int = 128) -> Judge:
    return judge_of(
        Engine(slots=slots, context=context, chunk_tokens=chunk_tokens),
        PHI,
        int4(128),
        free_bytes=free_bytes,
        is_prepared=True,
        longest_context=131072,
    )


@pytest.mark.parametrize(
    ("free", "slots", "context", "expected"),
    [
        (16, 1, 4096, "fp32"),
        (5, 1, 4096, "int8"),  # fp32 would leave less than a fifth
        (16, 4, 4096, "fp32"),
        (8, 4, 4096, "int8"),
        (16, 1, 32768, "int8"),
        (64, 1, 32768, "fp32"),
    ],
)
def test_memory_and_context_choose(free: int, slots: int, context: int, expected: str) -> None:
    choice = choose("auto", phi(free * GIB, slots=slots, context=context), ALL)
    assert choice.kv_dtype == expected
    assert " MB" in choice.reason


def test_without_scales_half_precision_must_do_and_the_remedy_is_named() -> None:
    choice = choose("auto", phi(6 * GIB, slots=4), ("fp32", "fp16"))
    assert choice.kv_dtype == "fp16"
    assert "edge-agent model calibrate" in choice.reason


def test_where_the_scores_cost_more_than_the_cache_saves_fp32_stays() -> None:
    # A short context in long chunks: half of its cache is less than what scores take beside it.
    judge = phi(GIB, context=256, chunk_tokens=512)
    assert choose("auto", judge, ("fp32", "fp16")).kv_dtype == "fp32"


def test_a_package_of_old_has_but_one_kind() -> None:
    assert choose("auto", phi(GIB), ("fp32",)).kv_dtype == "fp32"


@pytest.mark.parametrize("kv_dtype", ALL)
def test_what_is_configured_is_taken(kv_dtype: str) -> None:
    choice = choose(kv_dtype, phi(0), ())
    assert (choice.kv_dtype, choice.reason) == (kv_dtype, "configured")


@given(st.integers(0, 64 * GIB), st.integers(1, 8), st.integers(128, 131072))
def test_what_is_chosen_needs_no_more_than_fp32(free: int, slots: int, context: int) -> None:
    judge = phi(free, slots=slots, context=context)
    chosen = judge(choose("auto", judge, ("fp32", "fp16")).kv_dtype)
    assert chosen.needed_bytes <= judge("fp32").needed_bytes


@pytest.mark.parametrize("name", [SCALES, OWN_SCALES])
def test_int8_is_usable_once_there_are_scales(tmp_path: Path, name: str) -> None:
    package = tmp_path / "tiny"
    plain = write_package(package)
    manifest = msgspec.structs.replace(plain, graphs=dict.fromkeys(ALL, "decoder.onnx"))
    assert usable_kinds(package, manifest) == {"fp32", "fp16"}
    (package / name).write_bytes(b"scales")
    assert usable_kinds(package, manifest) == set(ALL)


def test_memory_that_nobody_knows_is_plenty(tmp_path: Path) -> None:
    package = tmp_path / "tiny"
    manifest = write_package(package)
    choice = settle(Engine(), package, manifest, free_bytes=None, is_prepared=True)
    assert choice.kv_dtype == "fp32"
    assert "does not say" in choice.reason

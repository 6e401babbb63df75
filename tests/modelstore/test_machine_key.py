"""What a processor is, from the text that Linux gives of it."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import TYPE_CHECKING

import msgspec
import pytest

from edge_agent.modelstore import machine_key
from edge_agent.modelstore.machine_key import (
    MachineKey,
    cpu_fingerprint,
    difference,
    this_machine,
)

if TYPE_CHECKING:
    from pathlib import Path

X86 = """
processor	: 0
model name	: AMD EPYC
microcode	: 0x1000065
cpu MHz		: 2596.136
flags		: fpu sse sse2 ssse3 fma avx2 avx512_vnni srso_alias

processor	: 1
model name	: AMD EPYC
cpu MHz		: 3100.000
flags		: fpu sse sse2 ssse3 fma avx2 avx512_vnni srso_alias
"""
ARM = """
processor	: 0
Features	: fp asimd crc32 cpuid asimddp
CPU implementer	: 0x41
CPU part	: 0xd0b

processor	: 1
Features	: fp asimd crc32 cpuid asimddp
CPU implementer	: 0x41
CPU part	: 0xd05
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("0x1000065", "0x1000099"),  # microcode
        ("3100.000", "800.000"),  # clock
        (" srso_alias", " srso_alias ibpb_brtype"),  # a kernel that knows more weaknesses
        ("fpu sse sse2", "sse2 fpu sse"),
    ],
)
def test_what_kernels_do_not_care_for_changes_nothing(before: str, after: str) -> None:
    assert before in X86
    assert cpu_fingerprint(X86.replace(before, after)) == cpu_fingerprint(X86)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        (X86, " avx512_vnni", ""),
        (X86, " avx512_vnni", " avx512_vnni amx_int8"),
        (X86, "EPYC", "Ryzen"),
        (ARM, " asimddp", " asimddp i8mm"),
        (ARM, "0xd05", "0xd41"),  # one of the cores is another
    ],
)
def test_another_vector_unit_or_core_is_another_processor(
    text: str, before: str, after: str
) -> None:
    assert before in text
    assert cpu_fingerprint(text.replace(before, after)) != cpu_fingerprint(text)


def test_this_machine_is_itself() -> None:
    here = this_machine()

    assert here.onnxruntime == importlib.metadata.version("onnxruntime")
    assert here.machine == platform.machine()
    assert difference(here, this_machine()) is None


def test_a_processor_that_a_sandbox_hides_is_the_same_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_key, "_CPUINFO", tmp_path / "hidden")

    assert this_machine() == this_machine()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"onnxruntime": "1.33.0"}, "made by onnxruntime 1.33.0, this is 1.32.0"),
        ({"cpu": "ff"}, "made on another processor (x86_64 ff, not x86_64 00)"),
        ({"machine": "aarch64"}, "made on another processor (aarch64 00, not x86_64 00)"),
    ],
)
def test_a_difference_is_told_in_words(change: dict[str, str], words: str) -> None:
    here = MachineKey(onnxruntime="1.32.0", machine="x86_64", cpu="00")

    told = difference(msgspec.structs.replace(here, **change), here)

    assert told == words

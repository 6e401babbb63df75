"""Small files of the kernel, whole and otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edge_agent.ops.procfs import (
    kib_as_bytes,
    number,
    read_number,
    read_numbers,
    read_pairs,
    read_text,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_what_is_not_there_is_none_or_empty(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert read_text(missing) is None
    assert read_number(missing) is None
    assert read_pairs(missing) == {}
    assert read_numbers(missing) == {}


def test_a_directory_in_place_of_a_file_reads_as_nothing(tmp_path: Path) -> None:
    assert read_text(tmp_path) is None


@pytest.mark.parametrize(
    ("text", "expected"), [("12", 12), ("max", None), ("", None), ("-1", None), ("٣", None)]
)
def test_only_plain_digits_are_a_number(text: str, expected: int | None) -> None:
    assert number(text) == expected


def test_a_number_may_end_its_line(tmp_path: Path) -> None:
    path = tmp_path / "memory.current"
    path.write_text("4096\n")
    assert read_number(path) == 4096


def test_of_equal_keys_the_first_counts_and_lines_without_numbers_are_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "stat"
    path.write_text("model name : one\nmodel name : two\nanon 7\nname text\n\n")
    assert read_pairs(path)["model name"] == "one"
    assert read_numbers(path) == {"anon": 7}


def test_kibibytes_become_bytes() -> None:
    assert kib_as_bytes({"MemTotal": "3 kB"}, "MemTotal") == 3072
    assert kib_as_bytes({"MemTotal": "many kB"}, "MemTotal") is None
    assert kib_as_bytes({}, "MemTotal") is None

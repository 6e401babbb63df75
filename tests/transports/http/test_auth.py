"""API keys: what opens the door, and that a comparison tells nothing."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING

import pytest

from edge_agent.errors import ConfigError
from edge_agent.transports.http import auth
from edge_agent.transports.http.auth import ApiKeys, load_keys

if TYPE_CHECKING:
    from pathlib import Path

FIRST = "first-key-0123456789"
SECOND = "second-key-0123456789"
SETTING = "http.api_key_file"


@pytest.mark.parametrize("header", [f"Bearer {FIRST}", f"bearer {SECOND}", f"Bearer  {FIRST} "])
def test_every_key_opens(header: str) -> None:
    assert ApiKeys([FIRST, SECOND]).accept(header)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", FIRST, f"Basic {FIRST}", f"Bearer {FIRST}x", "Bearer \udcff"],
)
def test_nothing_else_does(header: str | None) -> None:
    assert not ApiKeys([FIRST, SECOND]).accept(header)


def test_a_key_file_may_hold_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# the kitchen\n{FIRST}\n\n  {SECOND}  \n")

    keys = load_keys(str(path), SETTING)

    assert keys.accept(f"Bearer {FIRST}")
    assert keys.accept(f"Bearer {SECOND}")
    assert not keys.accept("Bearer # the kitchen")


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"short\n", b"\xff\xfe"])
def test_a_key_file_without_usable_keys_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"http\.api_key_file"):
        load_keys(str(path), SETTING)


def test_a_missing_key_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"http\.api_key_file"):
        load_keys(str(tmp_path / "none"), SETTING)


def test_keys_are_compared_in_constant_time_only() -> None:
    keys_class = next(
        node
        for node in ast.walk(ast.parse(inspect.getsource(auth)))
        if isinstance(node, ast.ClassDef) and node.name == "ApiKeys"
    )
    compared = [ast.unparse(node) for node in ast.walk(keys_class) if isinstance(node, ast.Compare)]
    called = [ast.unparse(node.func) for node in ast.walk(keys_class) if isinstance(node, ast.Call)]

    assert compared == ["scheme.lower() == _SCHEME"]
    assert called.count("hmac.compare_digest") == 1

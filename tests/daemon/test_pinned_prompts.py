"""What is pinned: from the configuration, a file or a variant; checked, and never half read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from edge_agent.config import Limits, Pinned
from edge_agent.daemon.pinned_prompts import find_pinned, write_pinned
from edge_agent.errors import ConfigError
from edge_agent.messages import Beginning, Tool
from edge_agent.modelstore.card import Variant

if TYPE_CHECKING:
    from pathlib import Path

TERSE = Variant(name="terse", title="Terse", variant_of="base", system_prompt="Be brief.")
PLAIN = Variant(name="plain", title="Plain", variant_of="base")
VARIANTS = {"terse": TERSE, "plain": PLAIN}
SCHEMA = {"type": "object", "properties": {"level": {"type": "number"}}}
OFFERED = {"type": "function", "function": {"name": "turn", "parameters": SCHEMA}}
TURN = Tool(name="turn", parameters=SCHEMA)


def test_all_three_sources_are_found(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Look after valves.", encoding="utf-8")
    pinned = (
        Pinned(name="a", system="Hello."),
        Pinned(name="b", file=str(tmp_path / "prompt.txt")),
        Pinned(name="c", variant="terse"),
    )

    found = find_pinned(pinned, VARIANTS, Limits())

    assert found == (
        Beginning(name="a", system="Hello."),
        Beginning(name="b", system="Look after valves."),
        Beginning(name="c", system="Be brief."),
    )


def test_tools_are_read_as_those_of_a_request(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode([OFFERED])))
    pinned = (
        Pinned(name="a", system="Hello.", tools=(OFFERED,)),
        Pinned(name="b", tools_file=str(path)),
    )

    assert find_pinned(pinned, {}, Limits()) == (
        Beginning(name="a", system="Hello.", tools=(TURN,)),
        Beginning(name="b", tools=(TURN,)),
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[]", "tools.*must not be empty"),
        (b"{}", "tools.json: no JSON list of tools"),
        (b"[" * 100_000, "tools.json: no JSON list of tools"),
        (b'[{"type": "function"}]', r"tools\[0\].function"),
        (b'[{"type": "web_search"}]', r'only "function" is offered'),
        (b" " * ((1 << 20) + 1), "more than 1048576 bytes"),
    ],
    ids=["empty", "object", "deep", "nameless", "foreign", "long"],
)
def test_tools_that_no_request_could_offer_are_refused(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    path = tmp_path / "tools.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"'a'.*{sentence}"):
        find_pinned((Pinned(name="a", tools_file=str(path)),), {}, Limits())


@pytest.mark.parametrize(
    ("one", "sentence"),
    [
        (Pinned(name="a", variant="none"), r"'a'.*'none' is no variant"),
        (Pinned(name="a", variant="plain"), r"'a'.*'plain' has no system prompt"),
        (Pinned(name="a", file="/nowhere/at/all"), r"'a'.*/nowhere/at/all"),
    ],
)
def test_what_is_not_to_be_found_is_named(one: Pinned, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        find_pinned((one,), VARIANTS, Limits())


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"x" * 65537, "more than 65536 bytes"), (b"\xff", "decode")]
)
def test_a_file_that_is_no_prompt_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=sentence):
        find_pinned((Pinned(name="a", file=str(path)),), {}, Limits())


def test_the_engine_gets_them_in_a_file_that_others_cannot_read(tmp_path: Path) -> None:
    path = write_pinned(tmp_path, (Beginning(name="a", system="Hello."),))

    assert msgspec.json.decode(path.read_bytes()) == [{"name": "a", "system": "Hello."}]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"system": "a", "variant": "b"},
        {"tools": (OFFERED,), "tools_file": "c"},
        {"system": "a", "tools": (OFFERED,), "tools_file": "c"},
    ],
)
def test_one_source_of_each_must_be_said(said: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="say one of system, file and variant, one of tools and"):
        Pinned(name="a", **said)

"""The configuration read: what goes before what, and where a mistake is said to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Config, load
from edge_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LISTEN = "EDGE_AGENT_HTTP__LISTEN"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge.yaml"


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing yet\n")
    assert load(file, {}) == Config()


def test_the_environment_goes_before_the_file(file: Path) -> None:
    file.write_text("http:\nengine: {slots: 2, context: 512}\n")
    environ = {LISTEN: "['127.0.0.1:1']", "EDGE_AGENT_ENGINE__SLOTS": "3", "PATH": "/bin"}

    read = load(file, environ)

    assert read.http.listen == ("127.0.0.1:1",)
    assert (read.engine.slots, read.engine.context) == (3, 512)


def test_the_environment_may_name_the_file(file: Path) -> None:
    file.write_text("model: phi-4-mini-instruct\n")
    environ = {"EDGE_AGENT_CONFIG": str(file), "EDGE_AGENT_HOME": "/srv"}
    assert load(None, environ).model == "phi-4-mini-instruct"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "expected the node content"),
        ("- model", "expected keys and values, found list"),
        ("http: {listn: []}", "unknown key 'http.listn'; the nearest known key is 'http.listen'"),
        ("htp: {}", "unknown key 'htp'; the nearest known key is 'http'"),
        ("engine: 4", "Expected `object`, got `int` - at `engine`"),
        ("engine: {slots: 0}", "Expected `int` >= 1 - at `engine.slots`"),
        ("engine: {slots: many}", "Expected `int`, got `str` - at `engine.slots`"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert str(caught.value).startswith(f"{file}: ")
    assert words in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(file, {})
    file.write_bytes(b"model: \xff")
    with pytest.raises(ConfigError, match="utf-8"):
        load(file, {})


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("EDGE_AGENT_HTTP__LISTN", "[]", "the nearest known key is 'http.listen'"),
        ("EDGE_AGENT_HTTP", "{}", "unknown key 'http'"),
        (LISTEN, "[", "while parsing"),
        (LISTEN, "hello", "Expected `array`, got `str` - at `http.listen`"),
        ("EDGE_AGENT_ENGINE__SLOTS", "0", "Expected `int` >= 1 - at `engine.slots`"),
        ("EDGE_AGENT_MEMORY__BUDGET", "much", "memory.budget: expected bytes or a size"),
    ],
)
@pytest.mark.parametrize("text", ["", "http: {max_body_bytes: 2048}\nengine: {context: 512}\n"])
def test_a_variable_that_is_wrong_is_named(
    file: Path, text: str, variable: str, value: str, words: str
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"^environment {variable}: ") as caught:
        load(file, {variable: value})
    assert words in str(caught.value)


def test_a_mistake_of_the_file_that_a_variable_replaces_does_no_harm(file: Path) -> None:
    file.write_text("http: {listen: hello}\n")
    assert load(file, {LISTEN: "[]"}).http.listen == ()


def test_a_variable_below_a_section_that_is_none_leaves_the_mistake_to_the_file(file: Path) -> None:
    file.write_text("http: 1\n")
    with pytest.raises(ConfigError, match="got `int` - at `http`"):
        load(file, {LISTEN: "[]"})


WORD = st.sampled_from(["", "auto", "slots", "listen", "1GB", "~", "ü"])
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | WORD
JSON = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(WORD, LEAF | st.lists(LEAF), max_size=3)
SECTIONS = st.dictionaries(st.sampled_from(Config.__struct_fields__), JSON)


@given(tree=SECTIONS)
def test_any_tree_is_a_configuration_or_refused(
    tree: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        assert isinstance(load(file, {}), Config)
    except ConfigError as exc:
        assert str(exc).startswith(str(file))  # noqa: PT017  # either end is a right one

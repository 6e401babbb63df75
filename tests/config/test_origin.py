"""To whom a mistake is owed: the file, a variable, or both."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_agent.config import Config
from edge_agent.config.origin import Variable, laid_over, origin

FILE = "/etc/edge.yaml"
PEER = {
    "name": "a",
    "kind": "openai",
    "url": "http://10.0.0.2:8000",
    "model": "m",
    "zone": "site",
}
Tree = dict[str, Any]


def variable(key: str, value: object) -> Variable:
    return Variable(f"EDGE_AGENT_{key.replace('.', '__').upper()}", key, value)


def problem_of(tree: Tree) -> str:
    """Return what is wrong with `tree`, which must be something."""
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(tree, Config)
    return str(caught.value)


def origin_of(file: Tree, *variables: Variable) -> str:
    return origin(problem_of(laid_over(file, variables)), FILE, file, variables)


LISTEN = variable("http.listen", "hello")
SLOTS = variable("engine.slots", 2)


def test_variables_go_before_the_file_which_stays_as_it_is() -> None:
    file = {"http": None, "engine": {"slots": 1, "context": 512}}
    assert laid_over(file, [LISTEN, SLOTS]) == {
        "http": {"listen": "hello"},
        "engine": {"slots": 2, "context": 512},
    }
    assert file == {"http": None, "engine": {"slots": 1, "context": 512}}


@pytest.mark.parametrize(
    ("file", "variables"),  # of which the first is wrong
    [
        ({}, [LISTEN]),
        ({"http": {"listen": ["127.0.0.1:1"]}}, [LISTEN, SLOTS]),
        ({"http": {"listen": "wrong as well"}}, [LISTEN]),
        ({"http": {"listen": "hello"}}, [LISTEN]),
        ({}, [variable("http.listen", ["127.0.0.1:1", 2])]),
        ({}, [variable("peers", [PEER, {**PEER, "name": "local"}])]),
        ({}, [variable("peers", [PEER, PEER])]),
        ({"memory": {"budget": "1GB"}}, [variable("memory.budget", "much"), SLOTS]),
        ({}, [variable("model", None)]),
    ],
)
def test_what_a_variable_gets_wrong_is_its_own(file: Tree, variables: list[Variable]) -> None:
    assert origin_of(file, *variables) == f"environment {variables[0].name}"


@pytest.mark.parametrize(
    ("file", "variables"),
    [
        ({"engine": {"slots": 0}}, []),
        ({"http": {"listen": "hello"}}, [SLOTS]),
        ({"http": {"listen": "hello"}}, [variable("http.max_body_bytes", 2048)]),
        ({"http": 1}, [LISTEN]),
        ({"memory": {"budget": "much"}}, [variable("memory.reserve", "1GB")]),
        ({"model": None}, [variable("peers", [])]),
        ({"peers": [{**PEER, "kind": "q - at `$.http.listen`"}]}, [SLOTS]),
    ],
)
def test_what_the_file_gets_wrong_stays_its_own(file: Tree, variables: list[Variable]) -> None:
    assert origin_of(file, *variables) == FILE


def test_a_key_is_not_taken_for_another_that_begins_like_it() -> None:
    problem = problem_of(file := {"http": {"api_key_file": 3}})
    assert origin(problem, FILE, file, [variable("http.api_key", "k")]) == FILE


def test_of_two_variables_that_are_wrong_the_one_is_named_that_is_complained_of() -> None:
    budget, reserve = variable("memory.budget", "much"), variable("memory.reserve", "more")
    assert origin_of({}, budget, reserve) == f"environment {budget.name}"


def test_what_a_variable_makes_wrong_in_a_file_names_both() -> None:
    never = variable("routing.fallback", "never")
    file = {"model": None, "peers": [PEER]}
    assert origin_of(file, never, SLOTS) == f"environment {never.name} over {FILE}"


def test_variables_that_would_each_do_are_all_named() -> None:
    never, nobody = variable("routing.fallback", "never"), variable("peers", [])
    file = {"model": None, "peers": [PEER]}
    found = origin_of(file, never, nobody)
    assert found == f"environment {never.name}, {nobody.name} over {FILE}"


KEYS = ["model", "peers", "http.listen", "engine.slots", "memory.budget", "routing.fallback"]
VALUES = st.sampled_from([None, 0, 2, "never", "1GB", "auto", [], ["127.0.0.1:1"], [PEER], [1]])
VARIABLES = st.dictionaries(st.sampled_from(KEYS), VALUES).map(
    lambda found: [variable(key, value) for key, value in found.items()]
)


def is_right(tree: Tree) -> bool:
    try:
        msgspec.convert(tree, Config)
    except msgspec.ValidationError:
        return False
    return True


@given(VARIABLES, VARIABLES)
def test_a_file_that_is_right_is_never_to_blame_alone(
    inside: list[Variable], variables: list[Variable]
) -> None:
    file = laid_over({}, inside)
    assume(not is_right(laid_over(file, variables)))
    found = origin_of(file, *variables)
    if is_right(file):
        assert found.startswith("environment EDGE_AGENT_")
    if is_right(laid_over({}, variables)):
        assert found.endswith(FILE)

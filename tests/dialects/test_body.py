"""Bodies from strangers: what is let through, and how each problem is named."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config import Limits
from edge_agent.dialects.body import (
    Fields,
    decode,
    element,
    policy,
    priority,
    seed,
    stop_strings,
)
from edge_agent.errors import InvalidRequest, TooLarge
from edge_agent.messages import Policy, Priority

LIMITS = Limits()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.text(), json_values))
def test_every_object_of_json_comes_through_as_it_was(body: dict[str, Any]) -> None:
    assert decode(json.dumps(body).encode(), LIMITS) == body


@given(st.binary())
def test_arbitrary_bytes_are_an_object_or_an_invalid_request(raw: bytes) -> None:
    with suppress(InvalidRequest):
        assert isinstance(decode(raw, LIMITS), dict)


@pytest.mark.parametrize(
    ("raw", "param", "says"),
    [
        (b"", None, "empty"),
        (b" \n", None, "empty"),
        (b"{", None, "not JSON"),
        (b'{"a": 1} x', None, "not JSON"),
        (b'{"a": "\xff"}', None, "not UTF-8 at byte 7"),
        ('{"a": 1}'.encode("utf-16"), None, "not UTF-8"),
        (b"[1]", None, "a list"),
        (b"null", None, "null"),
        (b'{"a": NaN}', "a", "not finite"),
        (b'{"a": {"b": [1, -Infinity]}}', "a.b[1]", "not finite"),
        (b'{"a": 1e999}', "a", "not finite"),
        (b'{"a": 9223372036854775808}', "a", "64 bits"),
        (b'{"a": -9223372036854775809}', "a", "64 bits"),
        (b'{"a": 1' + b"0" * 6000 + b"}", "a", "digits"),
        (b'{"a": [{"b": "\\ud800"}]}', "a[0].b", "surrogate"),
        (b'{"\\udc00": 1}', "?", "surrogate"),
        (b'{"\\udc00": []}', "?", "surrogate"),
    ],
)
def test_a_bad_body_is_refused_by_name(raw: bytes, param: str | None, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        decode(raw, LIMITS)
    assert refused.value.param == param


def test_the_bounds_of_64_bits_are_inside() -> None:
    body = {"least": -(1 << 63), "most": (1 << 63) - 1, "far": 1e300}
    assert decode(json.dumps(body).encode(), LIMITS) == body


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
@pytest.mark.parametrize("depth", [LIMITS.max_json_depth, 100_000])
def test_json_that_is_nested_too_deep_is_refused(opening: bytes, depth: int) -> None:
    closing = b"]" if opening == b"[" else b"}"
    raw = b'{"x":' + opening * depth + b"1" + closing * depth + b"}"

    with pytest.raises(InvalidRequest, match=f"deeper than {LIMITS.max_json_depth} levels"):
        decode(raw, LIMITS)


def test_json_at_the_depth_limit_is_read() -> None:
    depth = LIMITS.max_json_depth - 1
    assert decode(b'{"x":' + b"[" * depth + b"]" * depth + b"}", LIMITS)


def test_a_path_made_of_a_strangers_names_stays_short() -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode(b'{"' + b"a" * 100_000 + b'": NaN}', LIMITS)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("value", [True, "1", [], {}])
def test_only_numbers_are_numbers(value: object) -> None:
    fields = Fields({"x": value}, "here[2]")
    with pytest.raises(InvalidRequest, match=r"here\[2\].x: expected a number"):
        fields.number("x", least=0, most=1)
    with pytest.raises(InvalidRequest, match=r"here\[2\].x: expected a whole number"):
        fields.integer("x", least=0, most=1)


def test_a_number_names_its_bounds() -> None:
    fields = Fields({"x": 3})
    with pytest.raises(InvalidRequest, match="3 is not at least 0 and at most 2"):
        fields.number("x", least=0, most=2)
    with pytest.raises(InvalidRequest, match="3 is not above 3 and at most 4"):
        fields.number("x", least=3, most=4, least_included=False)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert Fields({"x": 3.0}).integer("x", least=0, most=5) == 3
    with pytest.raises(InvalidRequest, match="expected a whole number"):
        Fields({"x": 3.5}).integer("x", least=0, most=5)


@pytest.mark.parametrize(
    ("reader", "wrong", "expected"),
    [("text", 1, "a string"), ("flag", 1, "a boolean"), ("items", {}, "a list"),
     ("object", [], "an object")],
)  # fmt: skip
def test_a_wrong_type_says_what_was_expected(reader: str, wrong: object, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=f"x: expected {expected}, found"):
        getattr(Fields({"x": wrong}), reader)("x")


@pytest.mark.parametrize("reader", ["text", "flag", "items", "object"])
def test_null_is_as_good_as_absent(reader: str) -> None:
    assert getattr(Fields({"x": None}), reader)("x") is None
    assert getattr(Fields({}), reader)("x") is None


def test_an_element_that_is_no_object_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"list\[1\]: expected an object, found a string"):
        element([{}, "x"], 1, "list")


def test_stop_may_be_one_string_or_several() -> None:
    assert stop_strings(Fields({"stop": "a"}), LIMITS) == ("a",)
    assert stop_strings(Fields({"stop": ["a", "b"]}), LIMITS) == ("a", "b")
    assert stop_strings(Fields({"stop": []}), LIMITS) == ()


@pytest.mark.parametrize(
    ("stop", "param", "error"),
    [
        ("", "stop", InvalidRequest),
        (["a", ""], "stop[1]", InvalidRequest),
        (["a", 1], "stop[1]", InvalidRequest),
        (1, "stop", InvalidRequest),
        (["x"] * (LIMITS.max_stop_strings + 1), "stop", TooLarge),
        ("x" * (LIMITS.max_stop_chars + 1), "stop", TooLarge),
    ],
)
def test_a_bad_stop_string_is_named(stop: object, param: str, error: type) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stop_strings(Fields({"stop": stop}), LIMITS)
    assert type(refused.value) is error
    assert refused.value.param == param


def test_every_seed_fits_a_generator_that_takes_no_sign() -> None:
    assert seed(Fields({"seed": 7})) == 7
    assert seed(Fields({"seed": -1})) is None
    assert seed(Fields({"seed": -2})) == (1 << 64) - 2


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, Priority.NORMAL),
        ("high", Priority.HIGH),
        ("low", Priority.LOW),
        (0, Priority.NORMAL),  # vLLM counts so
        (-3, Priority.HIGH),
        (7, Priority.LOW),
    ],
)
def test_priority_is_a_name_or_the_number_of_vllm(value: object, expected: Priority) -> None:
    assert priority(Fields({"priority": value})) is expected


def test_policy_is_one_of_three_names_or_none() -> None:
    assert policy(Fields({})) is None
    assert policy(Fields({"policy": "local"})) is Policy.LOCAL
    for value in ("cloud", "LOCAL", 1, True):
        with pytest.raises(InvalidRequest) as caught:
            policy(Fields({"policy": value}))
        assert caught.value.param == "policy"
    with pytest.raises(InvalidRequest, match="high, normal, low"):
        priority(Fields({"priority": "urgent"}))
    with pytest.raises(InvalidRequest):
        priority(Fields({"priority": True}))

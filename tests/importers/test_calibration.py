"""Sizes of keys and values, the scales that follow, and the conversation they are measured with."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.errors import ModelError
from edge_agent.importers.calibration import prompt, scales_of, sizes
from edge_agent.importers.noise import tokenizer
from edge_agent.text.chat import ChatTemplate
from edge_agent.text.tokenizer import Tokenizer


def template(source: str) -> ChatTemplate:
    return ChatTemplate(source, Tokenizer(tokenizer(300)))


def test_a_pair_has_its_greatest_length_and_all_else_its_greatest_size() -> None:
    keys = np.array([[[3, 0, 4, 0, 1]], [[0, 1, 0, -1, -2]]], np.float32)

    found = sizes(keys, -keys, rotated=4)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], [[5, 2**0.5, 5, 2**0.5, 2]], rtol=1e-6)
    np.testing.assert_array_equal(found[1], [[3, 1, 4, 1, 2]])


def test_rotation_changes_no_size() -> None:
    keys = np.random.default_rng(0).normal(size=(1, 2, 8)).astype(np.float32)
    first, second = np.split(keys, 2, axis=2)
    turned = np.concatenate([0.6 * first - 0.8 * second, 0.8 * first + 0.6 * second], 2)

    found = sizes(turned.astype(np.float32), keys, rotated=8)

    np.testing.assert_allclose(found, sizes(keys, keys, rotated=8), rtol=1e-5)


def test_the_greatest_step_reaches_as_far_as_the_room() -> None:
    greatest = np.array([[0.5, 7.0]], np.float32)

    np.testing.assert_allclose(127 * scales_of(greatest, room=1.5), 1.5 * greatest, rtol=1e-6)


def test_a_channel_that_is_always_zero_has_a_scale_too() -> None:
    assert scales_of(np.zeros(1, np.float32), room=1.2) > 0


def test_the_text_is_what_a_user_says() -> None:
    words = template("A{{ messages[0].role }}:{{ messages[0].content }}")

    assert prompt("hello", words) == Tokenizer(tokenizer(300)).encode("Auser:hello")


def test_a_template_without_a_place_for_it_is_refused() -> None:
    with pytest.raises(ModelError, match=r"chat template: no place for a user.*only systems"):
        prompt("hello", template("{{ raise_exception('only systems speak') }}"))

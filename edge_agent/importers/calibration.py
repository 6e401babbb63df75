"""From the sizes of keys and values over a text to the scales of a KV cache in 8 bits.

The scale of a channel is its greatest size over a text of many kinds, with some room above. Keys
are cached as they are rotated, and rotation mixes the two channels of a pair by the position. So
both get the greatest length of the pair, which no position changes: the scales then hold for all
positions, in short and in long mode.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import InvalidRequest, ModelError
from edge_agent.messages import Message, Role

if TYPE_CHECKING:
    from edge_agent.importers.arrays import F32
    from edge_agent.text.chat import ChatTemplate

TEXT = Path(__file__).with_name("calibration.txt")
"""A text of many kinds that comes with the program."""

# The greatest of int8, without -128: both signs reach equally far.
_TOP = 127
# Other texts go beyond the measured one, a short one more than a long one; what goes beyond is cut
# off, which costs more than steps that are wider by as much. For SmolLM2 with the sizes of 256
# tokens, perplexity over that of an fp32 cache: 1.003 with room for 1.2 times as much, 1.000 with
# 1.5, 1.001 with 1.8, 1.004 with 2.1. With those of a thousand tokens 1.2 are enough.
ROOM_OVER_SHORT_TEXT = 1.5
ROOM_OVER_LONG_TEXT = 1.2
# A channel that was zero throughout, which has no size to go by.
_LEAST_SCALE = 1e-6


class NoPlace(ModelError):
    """The chat template does not write a user's message."""


def prompt(text: str, template: ChatTemplate) -> list[int]:
    """Return the token ids of `text` as the message of a user.

    As a conversation: control tokens come first in every prompt, and are unlike any text.

    Raises:
        NoPlace: the template refuses a user's message, or fails at it.
    """
    try:
        return template.encode([Message(role=Role.USER, content=text)])
    except (InvalidRequest, ModelError) as exc:
        msg = f"chat template: no place for a user's message: {exc}"
        raise NoPlace(msg) from exc


def sizes(keys: F32, values: F32, *, rotated: int) -> F32:
    """Return the greatest size of each channel, float32 [2, kv_heads, head_dim], K before V.

    `keys` are rotated in the first `rotated` dims, as the cache has them; both float32 [tokens,
    kv_heads, head_dim].
    """
    lengths = np.abs(keys)
    half = rotated // 2
    pairs = np.hypot(keys[..., :half], keys[..., half:rotated])
    lengths[..., :half] = lengths[..., half:rotated] = pairs
    return np.stack([lengths.max(axis=0), np.abs(values).max(axis=0)])


def scales_of(greatest: F32, *, room: float) -> F32:
    """Return scales for channels of any shape, which reach `room` times their `greatest` sizes."""
    scales: F32 = greatest * np.float32(room / _TOP)
    return scales.clip(min=np.float32(_LEAST_SCALE))

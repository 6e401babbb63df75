"""The fields of the OpenAI chat dialect that speak of single tokens, both ways.

What OpenAI has not is as vLLM has it. Whether an id is in the vocabulary, the engine knows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from edge_agent.dialects.body import kind
from edge_agent.errors import InvalidRequest, TooLarge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edge_agent.config import Limits
    from edge_agent.dialects.body import Fields
    from edge_agent.messages import TokenLogprob

MOST_TOP_LOGPROBS = 20
MOST_BIAS = 100.0
# OpenAI's bound.
MOST_BIASED_TOKENS = 300
# Models name at most about ten tokens that end an answer.
MOST_STOP_TOKENS = 64

# JSON has no numbers for names. One spelling for each id: none comes twice.
_ID = re.compile(r"0|[1-9][0-9]{0,8}")


def read_logprobs(fields: Fields) -> int | None:
    """Return how many of the likeliest tokens are to be told; None for no log-probabilities.

    Raises:
        InvalidRequest: mistyped, out of range, or likeliest tokens without `logprobs`.
    """
    is_asked = fields.flag("logprobs")
    num_top = fields.integer("top_logprobs", least=0, most=MOST_TOP_LOGPROBS)
    if num_top and not is_asked:
        raise InvalidRequest("is only allowed when logprobs is true", "top_logprobs")
    return num_top or 0 if is_asked else None


def read_bias(fields: Fields) -> dict[int, float]:
    """Return field `logit_bias`: what to add to the logits of token ids.

    Raises:
        InvalidRequest: a name is no token id, or its value no number within bounds.
        TooLarge: too many tokens.
    """
    tree = fields.object("logit_bias")
    if tree is None:
        return {}
    names = tree.values()
    if len(names) > MOST_BIASED_TOKENS:
        raise TooLarge("logit_bias", len(names), MOST_BIASED_TOKENS, "tokens")
    for name in names:
        if not _ID.fullmatch(name):
            raise InvalidRequest("the names in it must be token ids", "logit_bias")
    read = {name: tree.number(name, least=-MOST_BIAS, most=MOST_BIAS) for name in names}
    return {int(name): bias for name, bias in read.items() if bias}


def read_min_tokens(fields: Fields, limits: Limits, *, max_tokens: int | None) -> int:
    """Return field `min_tokens`: how many tokens an answer has before anything may end it.

    Raises:
        InvalidRequest: mistyped, out of range, or more than `max_tokens`.
    """
    min_tokens = fields.integer("min_tokens", least=0, most=limits.max_answer_tokens) or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise InvalidRequest(f"{min_tokens} is more than max_tokens, {max_tokens}", "min_tokens")
    return min_tokens


def read_stop_ids(fields: Fields) -> tuple[int, ...]:
    """Return field `stop_token_ids`: tokens that end the answer and are not part of its text.

    Raises:
        InvalidRequest: one of them is no token id.
        TooLarge: too many.
    """
    values = fields.items("stop_token_ids") or []
    if len(values) > MOST_STOP_TOKENS:
        raise TooLarge("stop_token_ids", len(values), MOST_STOP_TOKENS, "tokens")
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            problem = f"expected a token id, found {kind(value)}"
            raise InvalidRequest(problem, f"stop_token_ids[{index}]")
        if not _ID.fullmatch(str(value)):
            raise InvalidRequest(f"{value} is no token id", f"stop_token_ids[{index}]")
    return tuple(values)


def logprobs_body(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
    """Return the `logprobs` of a choice, null if there are none."""
    if not logprobs:
        return None
    content = [
        {**_token(told), "top_logprobs": [_token(other) for other in told.top]} for told in logprobs
    ]
    return {"content": content, "refusal": None}


def _token(told: TokenLogprob) -> dict[str, Any]:
    data = None if told.data is None else list(told.data)
    return {"token": told.text, "logprob": told.logprob, "bytes": data}

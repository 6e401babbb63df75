"""Token counts and timings as JSON objects, the same on every surface that shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_agent.messages import Done, Usage


def usage_body(usage: Usage) -> dict[str, Any] | None:
    """Return the `usage` object; None where nobody counted, as clients take guesses for counts."""
    if not usage.is_counted:
        return None
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def metrics_body(done: Done) -> dict[str, float]:
    """Return the `metrics` object: milliseconds, and answer tokens per second of decode.

    The first token comes out of prefill, so decode produced one token less than the answer has.
    What cannot be told without a count of tokens is 0.
    """
    timings, usage = done.timings, done.usage
    steps = max(usage.completion_tokens - 1, 0) if usage.is_counted else 0
    decoding = timings.decode_s > 0 and steps > 0
    return {
        "time_to_first_token_ms": round((timings.queue_s + timings.prefill_s) * 1e3, 3),
        "generation_time_ms": round(timings.decode_s * 1e3, 3),
        "queue_time_ms": round(timings.queue_s * 1e3, 3),
        "mean_itl_ms": round(timings.decode_s * 1e3 / steps, 3) if decoding else 0.0,
        "tokens_per_second": round(steps / timings.decode_s, 3) if decoding else 0.0,
    }

"""What a runner is asked to do. Plain Python: peers live in interpreters of their own."""

from __future__ import annotations

from dataclasses import dataclass

Figures = dict[str, float]
"""Each with its unit in its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work, the same for every runner that takes part."""

    kind: str
    """prefill, decode, streams, ttft, memory, share, pace, idle, answers or perplexity."""
    tokens: int = 0
    """Of the prompt; of each prompt, where there are more."""
    new_tokens: int = 0
    """Of each answer that are timed."""
    tail: int = 0
    """Tokens of a prompt behind those that it shares with an earlier one, for `ttft`; of the prompt
    of the answer that runs, for `pace`."""
    streams: int = 1
    """Answers at once."""
    reps: int = 1
    """Repeats in a row, of which the median counts."""
    first_id: int = 1000
    """Lower ids are bytes, and those from `first_id + num_ids` on may be control tokens."""
    num_ids: int = 16_000
    rest_s: float = 0
    """How long nothing is asked, for `idle`."""
    workload: str = ""
    """A kind of prompts of `tests.bench.workloads`, for `answers`."""

    def stream_tokens(self, *, read_per_token: int) -> int:
        """Return what each stream asks a server for, so that all decode at once for long enough.

        While the last prompt is read, the first answers go on: by a token for each `read_per_token`
        tokens of prompts at most.
        """
        return 2 * self.new_tokens + self.streams * self.tokens // read_per_token

    def prompt(self, seed: int, count: int) -> list[int]:
        """Return `count` made-up token ids. Prompts of two seeds differ from their first id on."""
        return [self.first_id + (seed * 131 + i * 31) % self.num_ids for i in range(count)]

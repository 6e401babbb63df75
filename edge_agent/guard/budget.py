"""Predicts what requests take, from the dimensions of their model. Arithmetic on plain values.

Everything is anonymous memory of the engine's process beyond what it has after loading. The shares
that are not plain sums were measured with onnxruntime 1.32 on x86-64, on SmolLM2-135M and on
Phi-4-mini's shape, with 1 to 256 rows a step; `tests/real/test_budget.py` measures them again.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agent.modelstore.fit import attention_bytes, kv_bytes_per_token

if TYPE_CHECKING:
    from edge_agent.modelstore.manifest import Shape

_FLOAT_BYTES = 4
# Each slot that runs has a binding, a row of logits with its indices, and threads' small blocks.
_SLOT_BYTES = 768 << 10
# What the choice of a token takes of a vocabulary whose entries are all about as likely, 28, and
# the counts for its penalties, 8. Where few tokens are likely it takes a tenth of the first.
_SAMPLER_BYTES_PER_ENTRY = 36
# What the heaps of Python and of the library creep by in the first dozens of requests.
_HEAP_BYTES = 1536 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What memory the requests of one loaded model take."""

    shape: Shape
    kv_dtype: str
    chunk_tokens: int
    """Prompt tokens that are computed in one step."""
    context_tokens: int
    """Prompt and answer together, at most, of one request."""
    page_bytes: int = mmap.PAGESIZE

    def needed_bytes(
        self, *, prompt_tokens: int, answer_tokens: int, is_greedy: bool = False
    ) -> int:
        """Return the most that a request takes, alone in an engine that has just loaded.

        Of this, `cache_bytes` goes back with the request. The rest stays with the engine and serves
        the next request too: whoever adds up requests counts `shared_bytes` once.

        Args:
            prompt_tokens: tokens of its prompt.
            answer_tokens: tokens of its answer, `max_tokens` if it does not end before.
            is_greedy: its tokens are not drawn, which needs no noise.
        """
        rows = max(1, min(prompt_tokens, self.chunk_tokens))
        return self.cache_bytes(prompt_tokens + answer_tokens) + self.step_bytes(
            rows=rows, running=1, is_greedy=is_greedy
        )

    def cache_bytes(self, tokens: int) -> int:
        """Return what K and V of `tokens` take.

        Each head of each layer and side has a strip of its own, which grows by whole pages.
        """
        strips = self._strips
        strip_bytes = tokens * kv_bytes_per_token(self.shape, self.kv_dtype) // strips
        return strips * self._pages(strip_bytes) * self.page_bytes

    def step_bytes(self, *, rows: int, running: int, is_greedy: bool = False) -> int:
        """Return what steps of `rows` tokens take beside the cache, with `running` requests.

        A row's widest moment is the feed-forward: gate and up, fused and split, activated and
        multiplied, beside what attention left. Attention pads the rows of all that run to the
        longest of them.
        """
        shape = self.shape
        wide = shape.heads * shape.head_dim
        qkv = wide + 2 * shape.kv_heads * shape.head_dim
        packed = rows * (6 * shape.intermediate + 5 * shape.hidden + 4 * qkv)
        padded = rows * (running - 1) * (qkv + wide)
        logits = running * shape.vocab
        sampler = 0 if is_greedy else _SAMPLER_BYTES_PER_ENTRY * shape.vocab
        return (
            _FLOAT_BYTES * (packed + padded + logits)
            + running * _SLOT_BYTES
            + sampler
            + _HEAP_BYTES
            + self._attention_bytes(running)
        )

    def shared_bytes(self, *, slots: int) -> int:
        """Return what stays with an engine that has had `slots` requests run at once."""
        return self.step_bytes(rows=self.chunk_tokens, running=slots)

    def most_tokens(self, free_bytes: int) -> int:
        """Return how many tokens of prompt and answer together fit into `free_bytes`, 0 if none.

        Never more than the context.
        """
        left = free_bytes - self.step_bytes(rows=self.chunk_tokens, running=1)
        pages = max(0, left) // (self._strips * self.page_bytes)
        row_bytes = kv_bytes_per_token(self.shape, self.kv_dtype) // self._strips
        return min(self.context_tokens, pages * self.page_bytes // row_bytes)

    @property
    def _strips(self) -> int:
        return 2 * self.shape.layers * self.shape.kv_heads

    def _pages(self, num_bytes: int) -> int:
        return -(-num_bytes // self.page_bytes)

    def _attention_bytes(self, running: int) -> int:
        """Return what attention has beside the cache: its buffers are as long as the context."""
        return attention_bytes(
            self.shape,
            self.kv_dtype,
            slots=running,
            chunk_tokens=self.chunk_tokens,
            context_tokens=self.context_tokens,
        )

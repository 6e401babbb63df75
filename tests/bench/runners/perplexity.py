"""What a KV type costs, as perplexity: `python -m tests.bench.runners.perplexity OPTIONS`.

Options: `package`, `kv_dtype`, `threads`. The text is the documentation that every Python carries.
"""

from __future__ import annotations

import pydoc_data.topics
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent.cli.bench import WINDOW_TOKENS
from edge_agent.cli.perplexity import measure
from tests.bench.runners.loop import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.runners.task import Figures, Task


class Reader:
    """Reads the text anew for every task."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.facts = {"kv_dtype": options["kv_dtype"]}
        self._options = options

    def run(self, task: Task) -> Figures:
        """Score `task.tokens` of the text."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as text:
            text.write("\n".join(pydoc_data.topics.topics.values()))
            text.flush()
            told = measure(
                Path(self._options["package"]),
                Path(text.name),
                window=WINDOW_TOKENS,
                most_tokens=task.tokens,
                threads=self._options["threads"],
                kv_dtype=self._options["kv_dtype"],
            )
        return {"perplexity": told["perplexity"], "scored_tokens": told["scored_tokens"]}


@contextmanager
def make(options: dict[str, Any]) -> Iterator[Reader]:
    """Nothing is loaded before a task."""
    yield Reader(options)


if __name__ == "__main__":
    serve(make)

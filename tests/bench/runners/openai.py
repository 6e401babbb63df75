"""A server of OpenAI's protocol, ours or vLLM: `python -m tests.bench.runners.openai OPTIONS`.

Options: `command` (with `{port}` in it), `environ` (likewise), `model`, and `about`, the path at
which the server tells its version. Streams are timed where they arrive, so that what the server
does beside computing is in the figure; and what it computes while nothing is asked.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.bench.runners.loop import serve
from tests.bench.runners.server import free_port, served
from tests.bench.runners.window import counted, together_tok_s

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.runners.server import Server
    from tests.bench.runners.task import Figures, Task
    from tests.bench.runners.window import Arrival

# The first answers wait for buffers, and for kernels that are made at their first use.
_WARM_UP_TOKENS = 8
# Our engine reads prompts so slowly beside answers that those keep half of their pace.
_READ_PER_TOKEN = 2


class OpenAi:
    """A running server."""

    def __init__(self, server: Server, model: str, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._server = server
        self._model = model
        self._seeds = 0
        self._is_warm = False

    def run(self, task: Task) -> Figures:
        """Time `task.streams` conversations at once, or the rest after one."""
        if task.kind not in ("streams", "idle"):
            msg = f"{task.kind} is not timed over HTTP"
            raise ValueError(msg)
        if not self._is_warm:
            self._together(task, _WARM_UP_TOKENS)
            self._is_warm = True
        if task.kind == "idle":
            return self._idle(task.rest_s)
        new_tokens = task.stream_tokens(read_per_token=_READ_PER_TOKEN)
        return {"tok_s": together_tok_s(self._together(task, new_tokens))}

    def _idle(self, rest_s: float) -> Figures:
        """Return the share of one core that the loaded server takes while nobody asks."""
        before_s = self._server.cpu_s()
        time.sleep(rest_s)
        return {"cpu_percent": 100 * (self._server.cpu_s() - before_s) / rest_s}

    def _together(self, task: Task, new_tokens: int) -> list[list[Arrival]]:
        self._seeds += task.streams
        texts = [question(self._seeds - i, task.tokens) for i in range(task.streams)]
        with ThreadPoolExecutor(task.streams) as pool:
            return list(pool.map(lambda text: self._arrivals(text, new_tokens), texts))

    def _arrivals(self, text: str, new_tokens: int) -> list[Arrival]:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream_options": {"include_usage": True},
        }
        times, tokens = [], 0
        for at_s, chunk in self._server.stream("/v1/chat/completions", body):
            if any(choice["delta"].get("content") for choice in chunk["choices"]):
                times.append(at_s)
            if usage := chunk.get("usage"):
                tokens = usage["completion_tokens"]
        if tokens != new_tokens:
            msg = f"the server wrote {tokens} tokens instead of {new_tokens}"
            raise RuntimeError(msg)
        return counted(times, tokens)


def question(seed: int, tokens: int) -> str:
    """Return a text of about so many tokens, another one for each seed."""
    words = ("river", "stone", "cloud", "garden", "window", "letter", "morning", "silver")
    first = f"Story {seed}:"
    return " ".join([first, *(words[(seed + i * (i + seed)) % len(words)] for i in range(tokens))])


@contextmanager
def make(options: dict[str, Any]) -> Iterator[OpenAi]:
    """Run the server until the end."""
    began_s, port = time.perf_counter(), free_port()
    command = [part.replace("{port}", str(port)) for part in options["command"]]
    environ = {name: text.replace("{port}", str(port)) for name, text in options["environ"].items()}
    with served(command, environ, port) as server:
        load_s = round(time.perf_counter() - began_s, 2)
        facts = {"load_s": load_s, "about": server.get(options["about"])}
        yield OpenAi(server, options["model"], facts)


if __name__ == "__main__":
    serve(make)

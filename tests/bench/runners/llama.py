"""llama.cpp's server: `python -m tests.bench.runners.llama OPTIONS`.

Options: `server` (the program), `model` (GGUF), `context` of each slot, `slots`, `threads`,
`kv_dtype` (its own name of it). Prompts are token ids; the speed of one answer is what the server's
own `timings` tell, that of several is timed where they arrive.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.bench.runners.loop import serve
from tests.bench.runners.procfs import memory_mb
from tests.bench.runners.server import free_port, served
from tests.bench.runners.window import together_tok_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.runners.server import Server
    from tests.bench.runners.task import Figures, Task
    from tests.bench.runners.window import Arrival

_WARM_UP_TOKENS = 16


class LlamaCpp:
    """A running server."""

    def __init__(self, server: Server, facts: dict[str, Any]) -> None:
        self.facts = facts
        self._server = server
        self._loaded = memory_mb(server.process.pid)
        self._seeds = 0
        self._is_warm = False

    def run(self, task: Task) -> Figures:
        """Do `task` once."""
        if not self._is_warm and task.kind != "memory":
            self._complete(task.prompt(self._seed(), _WARM_UP_TOKENS), 4)
            self._is_warm = True
        kinds = {
            "prefill": self._prefill,
            "decode": self._decode,
            "streams": self._streams,
            "ttft": self._ttft,
            "memory": self._memory,
        }
        return kinds[task.kind](task)

    def _prefill(self, task: Task) -> Figures:
        speeds = []
        for _ in range(task.reps):
            told = self._complete(task.prompt(self._seed(), task.tokens), 1)
            speeds.append(told["prompt_per_second"])
        return {"tok_s": statistics.median(speeds)}

    def _decode(self, task: Task) -> Figures:
        """Time answers after the one prompt, which the slot keeps from the first of them on."""
        prompt = task.prompt(0, task.tokens)
        # Its speed counts one step less than tokens: the first comes out of the prompt.
        speeds = [
            self._complete(prompt, 1 + task.new_tokens, is_cached=True)["predicted_per_second"]
            for _ in range(task.reps)
        ]
        return {"tok_s": statistics.median(speeds)}

    def _streams(self, task: Task) -> Figures:
        # Until the last prompt is read, the first answers go on: they must not end before.
        new_tokens = 2 * task.new_tokens + task.streams * task.tokens // 16
        prompts = [task.prompt(self._seed(), task.tokens) for _ in range(task.streams)]
        with ThreadPoolExecutor(task.streams) as pool:
            arrivals = list(pool.map(lambda prompt: self._arrivals(prompt, new_tokens), prompts))
        return {"tok_s": together_tok_s(arrivals)}

    def _ttft(self, task: Task) -> Figures:
        """Read a system prompt with a question, then with another question."""
        system = task.prompt(self._seed(), task.tokens)
        seconds = []
        for _ in range(2):
            began_s = time.perf_counter()
            self._complete([*system, *task.prompt(self._seed(), task.tail)], 1, is_cached=True)
            seconds.append(time.perf_counter() - began_s)
        return {"cold_s": seconds[0], "warm_s": seconds[1]}

    def _memory(self, task: Task) -> Figures:
        self._complete(task.prompt(self._seed(), task.tokens), 1)
        loaded = {f"loaded_{name}": value for name, value in self._loaded.items()}
        read = memory_mb(self._server.process.pid)
        return loaded | {f"read_{name}": value for name, value in read.items()}

    def _seed(self) -> int:
        self._seeds += 1
        return self._seeds

    def _complete(
        self, prompt: Sequence[int], new_tokens: int, *, is_cached: bool = False
    ) -> dict[str, Any]:
        body = _body(prompt, new_tokens) | {"cache_prompt": is_cached}
        timings: dict[str, Any] = self._server.post("/completion", body)["timings"]
        if timings["predicted_n"] != new_tokens:
            msg = f"llama.cpp wrote {timings['predicted_n']} tokens instead of {new_tokens}"
            raise RuntimeError(msg)
        return timings

    def _arrivals(self, prompt: Sequence[int], new_tokens: int) -> list[Arrival]:
        body = _body(prompt, new_tokens) | {"cache_prompt": False, "return_tokens": True}
        told = self._server.stream("/completion", body)
        return [(at_s, len(each["tokens"])) for at_s, each in told if each.get("tokens")]


def _body(prompt: Sequence[int], new_tokens: int) -> dict[str, Any]:
    greedy = {"temperature": 0, "top_k": 1, "ignore_eos": True}
    return {"prompt": list(prompt), "n_predict": new_tokens, **greedy}


def command(options: dict[str, Any], port: int) -> list[str]:
    """Return how the server is started: as many slots and threads as everybody has."""
    slots, threads, kv_dtype = options["slots"], str(options["threads"]), options["kv_dtype"]
    argv = [options["server"], "-m", options["model"], "--host", "127.0.0.1", "--port", str(port)]
    argv += [
        "-t",
        threads,
        "-tb",
        threads,
        "-np",
        str(slots),
        "-c",
        str(slots * options["context"]),
    ]
    # Prompts are kept in their slots only, so that each is read when it is to be read.
    return [*argv, "--cache-ram", "0", "-ctk", kv_dtype, "-ctv", kv_dtype, "-fa", "on"]


@contextmanager
def make(options: dict[str, Any]) -> Iterator[LlamaCpp]:
    """Run the server until the end."""
    began_s, port = time.perf_counter(), free_port()
    with served(command(options, port), {}, port) as server:
        facts = {
            "load_s": round(time.perf_counter() - began_s, 2),
            "kv_dtype": options["kv_dtype"],
            "build": server.get("/props").get("build_info"),
        }
        yield LlamaCpp(server, facts)


if __name__ == "__main__":
    serve(make)

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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.runners.loop import serve
from tests.bench.runners.server import free_port, served
from tests.bench.runners.timer import Timer
from tests.bench.runners.window import together_tok_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.runners.server import Server
    from tests.bench.runners.task import Figures, Task
    from tests.bench.runners.window import Arrival

# It reads the prompts of all slots in one step, as far as they have come.
_READ_PER_TOKEN = 16


class LlamaCpp(Timer):
    """A running server."""

    def __init__(self, server: Server, facts: dict[str, Any]) -> None:
        super().__init__(facts, pid=server.process.pid)
        self._server = server

    def read(self, prompt: Sequence[int]) -> float:
        """Return the seconds that the server says the prompt took."""
        seconds: float = self._complete(prompt, 1)["prompt_ms"] / 1000
        return seconds

    def decode(self, task: Task) -> Figures:
        """Time answers after the one prompt, which the slot keeps from the first of them on."""
        prompt = task.prompt(0, task.tokens)
        # Its speed counts one step less than tokens: the first comes out of the prompt.
        speeds = [
            self._complete(prompt, 1 + task.new_tokens)["predicted_per_second"]
            for _ in range(task.reps)
        ]
        return {"tok_s": statistics.median(speeds)}

    def streams(self, task: Task) -> Figures:
        """Time answers at once, one to a slot, where their tokens arrive."""
        new_tokens = task.stream_tokens(read_per_token=_READ_PER_TOKEN)
        prompts = [self.new_prompt(task, task.tokens) for _ in range(task.streams)]
        with ThreadPoolExecutor(task.streams) as pool:
            arrivals = list(pool.map(lambda prompt: self._arrivals(prompt, new_tokens), prompts))
        return {"tok_s": together_tok_s(arrivals)}

    def _complete(self, prompt: Sequence[int], new_tokens: int) -> dict[str, Any]:
        """Return the server's timings; the slot keeps the prompt for others that begin like it."""
        body = _body(prompt, new_tokens) | {"cache_prompt": True}
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


def distribution(program: Path) -> str | None:
    """Return name and version of the Python package in which `program` lies, if it does.

    Built by such a package, the server itself does not know its version.
    """
    for folder in program.parents:
        if folder.name == "site-packages":
            package = program.relative_to(folder).parts[0]
            return next((path.stem for path in folder.glob(f"{package}-*.dist-info")), None)
    return None


@contextmanager
def make(options: dict[str, Any]) -> Iterator[LlamaCpp]:
    """Run the server until the end."""
    began_s, port = time.perf_counter(), free_port()
    with served(command(options, port), {}, port) as server:
        facts = {
            "load_s": round(time.perf_counter() - began_s, 2),
            "kv_dtype": options["kv_dtype"],
            "build": server.get("/props").get("build_info"),
            "distribution": distribution(Path(options["server"])),
        }
        yield LlamaCpp(server, facts)


if __name__ == "__main__":
    serve(make)

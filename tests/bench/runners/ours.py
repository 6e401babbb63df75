"""Our engine, in this very process: `python -m tests.bench.runners.ours OPTIONS`.

Options: `package`, `slots`, `context`, `threads`, `kv_dtype`, `draft_tokens`, `kept_pace` (0 where
the reading of later prompts is not timed, and shall be over soon). Prompts are made-up
ids and answers do not stop early, but for `answers`: those are to real questions. Speed is that of
the engine's steps: the daemon has a process of its own.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import config
from edge_agent.cli.share import STEPS, measure_share
from edge_agent.engine.answer import Prepared
from edge_agent.engine.engine import Engine
from edge_agent.messages import Done, Failed, Request, Sampling
from edge_agent.modelstore.manifest import read_manifest
from tests.bench.runners.loop import serve
from tests.bench.runners.timer import Timer
from tests.bench.workloads import Workload, tasks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.runners.task import Figures, Task


class Ours(Timer):
    """A loaded package."""

    def __init__(self, options: dict[str, Any]) -> None:
        began_s = time.perf_counter()
        package = Path(options["package"])
        self._engine = Engine(
            package,
            slots=options["slots"],
            context=options["context"],
            chunk_tokens=config.Engine().chunk_tokens,
            threads=options["threads"],
            queue_requests=options["slots"],
            kv_dtype=options["kv_dtype"],
            draft_tokens=options["draft_tokens"],
            kept_pace=options["kept_pace"],
        )
        manifest = read_manifest(package)
        self._package, self._kv_dtype = package, options["kv_dtype"]
        facts = {
            "package": manifest.name,
            "kv_dtype": options["kv_dtype"],
            "load_s": round(time.perf_counter() - began_s, 2),
        }
        super().__init__(facts)

    def decode(self, task: Task) -> Figures:
        """Time answers after the one prompt, which is kept from the first of them on."""
        speeds = []
        for _ in range(task.reps):
            self._submit("decode", task.prompt(0, task.tokens), 1 + task.new_tokens)
            self._until_read()
            began_s = time.perf_counter()
            self._drain()
            speeds.append(task.new_tokens / (time.perf_counter() - began_s))
        return {"tok_s": statistics.median(speeds)}

    def share(self, task: Task) -> Figures:
        """Decode in turns with plain readers of memory."""
        self._submit("share", task.prompt(0, task.tokens), 1 + STEPS)
        self._until_read()
        found = measure_share(self._engine, self._package, self._kv_dtype)
        self._drain()
        return found._asdict()

    def pace(self, task: Task) -> Figures:
        """Time an answer alone, then beside a prompt until that is read, then alone again."""
        # Beside a prompt a token may come with each of the prompt's.
        most = 1 + 2 * task.new_tokens + task.tokens
        self._submit("answer", self.new_prompt(task, task.tail), most)
        self._until_read()
        before_s = self._steps_s(task.new_tokens)
        self._submit("prompt", self.new_prompt(task, task.tokens), 1)
        began_s, tokens = time.perf_counter(), 0
        while self._engine.waiting or self._engine.prefilling:
            self._engine.step()
            tokens += 1
        beside_s = (time.perf_counter() - began_s) / tokens
        alone_s = (before_s + self._steps_s(task.new_tokens)) / 2
        self._engine.cancel("answer")
        self._drain()
        return {"kept_pace": alone_s / beside_s, "alone_s": alone_s, "beside_s": beside_s}

    def _steps_s(self, count: int) -> float:
        """Return the seconds of one of `count` steps."""
        began_s = time.perf_counter()
        for _ in range(count):
            self._engine.step()
        return (time.perf_counter() - began_s) / count

    def streams(self, task: Task) -> Figures:
        """Time steps of all answers at once; while later prompts are read, the first go on."""
        spare = task.streams * task.tokens
        names = [f"stream-{i}" for i in range(task.streams)]
        for name in names:
            prompt = self.new_prompt(task, task.tokens)
            self._submit(name, prompt, 1 + task.new_tokens + spare)
        self._until_read()
        began_s = time.perf_counter()
        for _ in range(task.new_tokens):
            self._engine.step()
        elapsed_s = time.perf_counter() - began_s
        for name in names:
            self._engine.cancel(name)
        self._drain()
        return {"tok_s": task.streams * task.new_tokens / elapsed_s}

    def answers(self, task: Task) -> Figures:
        """Answer the prompts of a workload one after the other; reading them is not timed."""
        tokens, seconds = 0, 0.0
        for each in tasks(Workload(task.workload), max_tokens=task.new_tokens):
            request = Request(
                id="answer",
                messages=each.messages,
                max_tokens=each.max_tokens,
                sampling=Sampling(temperature=0),
            )
            self._engine.submit(self._engine.prepare(request))
            done = self._done()
            tokens += done.usage.completion_tokens - 1  # the first comes out of the prompt
            seconds += done.timings.decode_s
        return {"tok_s": tokens / seconds, "answer_tokens": tokens}

    def _done(self) -> Done:
        """Step until an answer ends.

        Raises:
            RuntimeError: it failed.
        """
        while self._engine.busy:
            for _, event in self._engine.step():
                match event:
                    case Done():
                        return event
                    case Failed():
                        raise RuntimeError(event.message)
                    case _:
                        pass
        msg = "nothing was asked"
        raise RuntimeError(msg)

    def read(self, prompt: Sequence[int]) -> float:
        """Return the seconds from the prompt's arrival to its first token."""
        began_s = time.perf_counter()
        self._submit("read", prompt, 1)
        self._drain()
        return time.perf_counter() - began_s

    def _submit(self, name: str, prompt: Sequence[int], max_tokens: int) -> None:
        self._engine.submit(
            Prepared(
                id=name,
                prompt=prompt,
                max_tokens=max_tokens,
                stop=(),
                stop_ids=(),
                sampling=Sampling(temperature=0),
            )
        )

    def _until_read(self) -> None:
        while self._engine.waiting or self._engine.prefilling:
            self._engine.step()

    def _drain(self) -> None:
        while self._engine.busy:
            self._engine.step()


@contextmanager
def make(options: dict[str, Any]) -> Iterator[Ours]:
    """Load the package; the end of the process gives it back."""
    yield Ours(options)


if __name__ == "__main__":
    serve(make)

"""onnxruntime-genai, in an interpreter that has it: `python -m tests.bench.runners.genai OPTIONS`.

Options: `model` (its directory), `context`, `threads`. Plain Python beside the library itself.
"""

from __future__ import annotations

import json
import statistics
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tests.bench.runners.loop import serve
from tests.bench.runners.timer import Timer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.bench.runners.task import Figures, Task


class GenAi(Timer):
    """A loaded model directory."""

    def __init__(self, options: dict[str, Any]) -> None:
        began_s = time.perf_counter()
        # By name: the library is not in the environment that checks types.
        self._og: Any = import_module("onnxruntime_genai")
        config = self._og.Config(options["model"])
        # Its default is half of the processors that it sees.
        threads = {"intra_op_num_threads": options["threads"], "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": threads}}}))
        self._model = self._og.Model(config)
        load_s = round(time.perf_counter() - began_s, 2)
        super().__init__({"onnxruntime_genai": self._og.__version__, "load_s": load_s})
        self._params = self._og.GeneratorParams(self._model)
        context = options["context"]
        # A least length is its way not to stop early.
        self._params.set_search_options(do_sample=False, max_length=context, min_length=context)
        self._generator: Any = None
        self._held_tokens = 0

    def decode(self, task: Task) -> Figures:
        """Time answers after the one prompt, to which the cache is rewound."""
        speeds = []
        prompt = task.prompt(0, task.tokens)
        for _ in range(task.reps):
            if self._held_tokens != task.tokens:
                self._new_generator()
                self._generator.append_tokens(prompt)
                self._held_tokens = task.tokens
            else:
                self._generator.rewind_to(task.tokens - 1)
                self._generator.append_tokens(prompt[-1:])
            self._generator.generate_next_token()  # no step: it picks from the prompt's logits
            began_s = time.perf_counter()
            for _ in range(task.new_tokens):
                self._generator.generate_next_token()
            speeds.append(task.new_tokens / (time.perf_counter() - began_s))
        return {"tok_s": statistics.median(speeds)}

    def read(self, prompt: Sequence[int]) -> float:
        """Return the seconds that the prompt takes up to its first token."""
        self._new_generator()
        began_s = time.perf_counter()
        self._generator.append_tokens(prompt)
        self._generator.generate_next_token()
        return time.perf_counter() - began_s

    def _new_generator(self) -> None:
        self._held_tokens = 0
        self._generator = None  # its cache is given back before there is another
        self._generator = self._og.Generator(self._model, self._params)


@contextmanager
def make(options: dict[str, Any]) -> Iterator[GenAi]:
    """Load the model; the end of the process gives it back."""
    yield GenAi(options)


if __name__ == "__main__":
    serve(make)

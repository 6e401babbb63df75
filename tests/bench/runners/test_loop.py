"""Lines in, lines out, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench.stable import ROOT

PROGRAM = """
from contextlib import contextmanager
from tests.bench.runners.loop import serve

class Doubler:
    facts = {"version": "1"}
    def run(self, task):
        print("noise of a library")
        return {"tok_s": task.tokens * 2.0 if task.tokens else 1 / 0}

@contextmanager
def make(options):
    yield Doubler()

serve(make)
"""


def test_tasks_are_answered_line_by_line_and_noise_stays_out() -> None:
    tasks = [{"kind": "prefill", "tokens": 4}, {"kind": "prefill"}, {"kind": "x", "tokens": 1}]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "{}"],
        input="".join(json.dumps(task) + "\n" for task in tasks),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {"ready": {"version": "1"}},
        {"figures": {"tok_s": 8.0}},
        {"error": "ZeroDivisionError: division by zero"},
        {"figures": {"tok_s": 2.0}},
    ]
    assert done.stderr.count("noise of a library") == 3

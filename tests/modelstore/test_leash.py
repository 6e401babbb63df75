"""A child on a leash ends with its parent, however that ends."""

from __future__ import annotations

import subprocess
import sys

import psutil

from edge_agent.modelstore.leash import leashed

PATIENCE_S = 30.0
PARENT = """
import subprocess, sys
from edge_agent.modelstore.leash import leashed
child = subprocess.Popen(
    leashed([sys.executable, "-c", "print('here', flush=True); input()"]),
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdout.readline()
print(child.pid, flush=True)
input()
"""


def test_a_killed_parent_takes_its_child_along() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))

    parent.kill()
    parent.communicate()

    _, alive = psutil.wait_procs([child], timeout=PATIENCE_S)
    assert alive == []


def test_the_program_runs_as_it_would_without() -> None:
    command = leashed([sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(7)", "a b"])

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (7, "a b\n")


def test_a_parent_that_is_gone_before_the_start_means_no_start() -> None:
    command = leashed([sys.executable, "-c", "print('started')"])
    command[3] = "1"  # as if the parent had been another process

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (1, "")

"""Sees to it that the model package is here and prepared for this machine, by child processes.

A failed pull is tried again, ever more slowly: a gateway may get its network hours later. What
cannot be prepared is served all the same, from the heap.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from typing import TYPE_CHECKING

import msgspec

from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore.leash import leashed
from edge_agent.modelstore.progress import Sample, Terms, sentence
from edge_agent.ops.health import State
from edge_agent.worker.backoff import wait_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from edge_agent.worker.standing import Standing

logger = logging.getLogger(__name__)

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 300.0
# A child that is told to end has nothing to save; the next resumes from what is on disk.
EXIT_LIMIT_S = 3.0


class _Trouble(msgspec.Struct, frozen=True):
    """The last line of a command that failed."""

    error: str


class Preparation:
    """Brings one model package into the store."""

    def __init__(
        self,
        find: Callable[[str], Path],
        name: str,
        standing: Standing,
        *,
        pull: Sequence[str],
        prepare: Callable[[str], Sequence[str]] | None,
    ) -> None:
        """Have `find` look for package `name`; `pull` is a command that brings it.

        `find` raises ModelNotFound or ModelError. `prepare` makes the command that packs the
        weights of a package for this machine, unless they are; None leaves them. Both commands
        report in JSON lines on their standard output.
        """
        self._find = find
        self._name = name
        self._standing = standing
        self._pull = pull
        self._prepare = prepare

    async def package(self) -> Path:
        """Return the package's directory once it is there, however long that takes.

        It is prepared then, if it can be.
        """
        path = await self._find_or_pull()
        if self._prepare is not None:
            problem = await self._run("prepare", self._prepare(path.name))
            if problem is not None:
                logger.warning("weights not prepared, they go to the heap reason=%s", problem)
        return path

    async def _find_or_pull(self) -> Path:
        failures = 0
        while True:
            try:
                return await asyncio.to_thread(self._find, self._name)
            except ModelNotFound:
                problem = await self._run_pull()
            except ModelError as exc:
                problem = str(exc)
            if problem is None:
                continue
            failures += 1
            pause_s = wait_s(
                failures,
                first_s=FIRST_RETRY_S,
                longest_s=LONGEST_RETRY_S,
                chance=random.random(),  # noqa: S311  # spreads retries, guards nothing
            )
            logger.error("model not prepared error=%s retry_in_s=%.0f", problem, pause_s)
            self._standing.change(State.FAILED, f"the model cannot be prepared: {problem}")
            await asyncio.sleep(pause_s)

    async def _run_pull(self) -> str | None:
        """Pull once; return None when the package is published, else what went wrong."""
        logger.info("model is not here, pulling it model=%s", self._name)
        self._standing.change(State.PREPARING, f"pulling {self._name}")
        return await self._run("pull", self._pull)

    async def _run(self, verb: str, command: Sequence[str]) -> str | None:
        """Run `command` to its end; return None when it succeeds, else what went wrong."""
        try:
            process = await asyncio.create_subprocess_exec(
                *leashed(list(command)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                # Ctrl-C is for the daemon, which ends the child itself.
                process_group=0,
            )
        except OSError as exc:
            return f"cannot start: {exc}"
        try:
            trouble = await self._follow(process)
            code = await process.wait()
        finally:
            await _end(process)
        return None if code == 0 else trouble or f"`edge-agent model {verb}` ended with {code}"

    async def _follow(self, process: asyncio.subprocess.Process) -> str | None:
        """Show the progress that `process` reports; return its last word if that is an error."""
        trouble = None
        assert process.stdout is not None  # noqa: S101  # it was asked for
        async for line in process.stdout:
            try:
                sample = msgspec.json.decode(line, type=Sample)
            except msgspec.DecodeError:
                trouble = _trouble(line)
            else:
                self._standing.change(State.PREPARING, sentence(sample))
        return trouble


def pull_command(name: str) -> list[str]:
    """Return the command that pulls model `name` and reports in JSON lines."""
    return [sys.executable, "-m", "edge_agent", "model", "pull", name, "--json"]


def prepare_command(name: str) -> list[str]:
    """Return the command that prepares model `name`, mostly has nothing to do, and reports so."""
    return [sys.executable, "-m", "edge_agent", "model", "prepare", name, "--quick", "--json"]


def _trouble(line: bytes) -> str | None:
    """Return what went wrong, unless `line` only tells the terms of the model."""
    try:
        return msgspec.json.decode(line, type=_Trouble).error
    except msgspec.DecodeError:
        return None if _is_terms(line) else line.decode(errors="replace").strip()


def _is_terms(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=Terms)
    except msgspec.DecodeError:
        return False
    return True


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(EXIT_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()

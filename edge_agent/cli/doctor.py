"""`edge-agent doctor`: can this machine run a model, which one, and with how long a context?

Looks, adds up and says; changes nothing, needs neither a model nor a network. Peers are asked how
they are. The exit status is 0 if the model fits, 1 if it does not, 2 if this machine cannot run
any; without a configured model, 0 if a peer answers, else 1.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from edge_agent import config
from edge_agent.cli.config import read
from edge_agent.errors import ModelError, ModelNotFound
from edge_agent.modelstore import prepared
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.modelstore.fit import (
    KV_DTYPES,
    RESERVE_BYTES,
    Fit,
    Verdict,
    packed_bytes,
    planned,
    raw_bytes,
)
from edge_agent.modelstore.kv_dtype import KvChoice, choose, judge_of, usable_kinds
from edge_agent.modelstore.manifest import read_manifest
from edge_agent.modelstore.store import ModelStore
from edge_agent.ops.cores import usable_cores
from edge_agent.ops.health import PeerHealth
from edge_agent.ops.machine import Machine, look

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from edge_agent.modelstore.catalog import Catalog
    from edge_agent.modelstore.manifest import Quantization, Shape

# What the wheels of onnxruntime are built for.
LEAST_GLIBC = (2, 28)
_WIDE_BITS = 64
# An import takes a second or two; on a slow card with a cold cache it may be twenty.
_IMPORT_LIMIT_S = 60
_GB = 1e9
_MB = 1e6


class Status(IntEnum):
    """What the verb ends with."""

    FITS = 0
    TOO_LARGE = 1
    UNUSABLE = 2


class Runtime(Struct, frozen=True, kw_only=True):
    """Whether onnxruntime works here, tried in a process of its own."""

    version: str | None
    problem: str | None = None


class Candidate(Struct, frozen=True, kw_only=True):
    """A model that could be served here."""

    name: str
    is_here: bool
    is_prepared: bool
    """Whether its weights are, or will be, pages of a file."""
    disk_bytes: int
    """Disk that is still needed for it."""
    kv: KvChoice
    fit: Fit


class Report(Struct, frozen=True, kw_only=True):
    """All that the verb says."""

    status: Status
    machine: Machine
    cores: int
    runtime: Runtime
    obstacles: tuple[str, ...]
    """Why this machine cannot run any model."""
    model: str | None
    """The one in question; None where peers answer everything."""
    candidates: tuple[Candidate, ...]
    peers: tuple[PeerHealth, ...] = ()
    helpers: tuple[str, ...] = ()
    """Peers that answer, now, what the model here cannot."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the verb."""
    parser = subparsers.add_parser("doctor", help="say which model and context fit this machine")
    parser.add_argument("--model", help="the model in question (default: the configured one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look and print."""
    settings = read(args)
    report = examine(settings, args.model)
    if args.json:
        print(json.dumps(msgspec.to_builtins(report)))
    else:
        print("\n".join((*_lines(report), *_peer_lines(settings, report))))
    return report.status


def examine(settings: config.Config, model: str | None) -> Report:
    """Return what is true of this machine and of every model known here.

    Raises:
        ModelNotFound: `model` is neither here nor has it a card with its dimensions.
        ConfigError: the key file of a peer cannot be used.
    """
    from edge_agent.cli import doctor_peers  # noqa: PLC0415  # heavy imports wait for the verb

    home = config.home_dir()
    catalog = catalog_of(home)
    named = model or settings.model
    base = None if named is None else catalog.base(named)
    machine = look(home)
    runtime = try_runtime()
    candidates = tuple(_candidates(settings, machine, ModelStore(home), catalog))
    asked = next((one for one in candidates if one.name == base), None)
    if base is not None and asked is None:
        raise ModelNotFound(base, tuple(one.name for one in candidates))
    obstacles = tuple(find_obstacles(machine, runtime))
    peers = doctor_peers.probe(settings)
    helpers = doctor_peers.helpers(settings, peers)
    return Report(
        status=_status(obstacles, asked, helpers),
        machine=machine,
        cores=usable_cores(),
        runtime=runtime,
        obstacles=obstacles,
        model=base,
        candidates=candidates,
        peers=peers,
        helpers=helpers,
    )


def try_runtime(python: str = sys.executable) -> Runtime:
    """Import onnxruntime in a child, which a CPU without the right instructions may kill."""
    code = "import edge_agent.engine.decoder as d; print(d.ort.__version__)"
    try:
        done = subprocess.run(
            [python, "-c", code],
            capture_output=True,
            text=True,
            timeout=_IMPORT_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        return Runtime(version=None, problem=str(exc))
    if done.returncode == 0:
        return Runtime(version=done.stdout.strip())
    if done.returncode < 0:
        return Runtime(version=None, problem=f"killed by signal {-done.returncode}")
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return Runtime(version=None, problem=last)


def find_obstacles(machine: Machine, runtime: Runtime) -> Iterator[str]:
    """Yield why `machine` can run no model at all, if so."""
    if machine.bits != _WIDE_BITS:
        yield f"this is a {machine.bits}-bit Python; onnxruntime needs {_WIDE_BITS} bits"
    if machine.glibc is None:
        yield "the C library is not glibc; the wheels of onnxruntime need it"
    elif _numbers(machine.glibc) < LEAST_GLIBC:
        yield f"glibc is {machine.glibc}; onnxruntime needs 2.28 or newer"
    if runtime.problem is not None:
        yield f"onnxruntime does not load: {runtime.problem}"
    if machine.free_bytes is None:
        yield "the system does not say how much memory is free (/proc/meminfo)"


def _status(
    obstacles: tuple[str, ...], asked: Candidate | None, helpers: tuple[str, ...]
) -> Status:
    if asked is None:
        return Status.FITS if helpers else Status.TOO_LARGE
    if obstacles:
        return Status.UNUSABLE
    return Status.FITS if asked.fit.verdict is not Verdict.TOO_LARGE else Status.TOO_LARGE


def _candidates(
    settings: config.Config, machine: Machine, store: ModelStore, catalog: Catalog
) -> Iterator[Candidate]:
    """Yield the packages that are here, then the cards whose dimensions are known."""
    here = store.names()
    for name in here:
        try:
            package = store.package(name)
            manifest = read_manifest(package)
        except ModelError:  # damaged: `model verify` says how
            continue
        is_prepared = prepared.fault(package, manifest) is None
        packed = packed_bytes(manifest.shape, manifest.quantization)
        yield _judged(
            settings,
            machine,
            manifest.shape,
            manifest.quantization,
            name=name,
            disk_bytes=0 if is_prepared else packed,
            longest_context=manifest.context,
            is_here=True,
            is_prepared=is_prepared,
            kinds=usable_kinds(package, manifest),
        )
    for card in catalog.cards:
        if card.name in here or card.shape is None or card.context is None:
            continue
        shape, quantization = planned(card)
        yield _judged(
            settings,
            machine,
            shape,
            quantization,
            name=card.name,
            disk_bytes=raw_bytes(shape, quantization) + packed_bytes(shape, quantization),
            longest_context=card.context,
            is_here=False,
            is_prepared=False,
            kinds=frozenset(KV_DTYPES),  # the import makes graphs and scales for all
        )


def _judged(  # noqa: PLR0913  # the facts of one model
    settings: config.Config,
    machine: Machine,
    shape: Shape,
    quantization: Quantization,
    *,
    name: str,
    disk_bytes: int,
    longest_context: int,
    is_here: bool,
    is_prepared: bool,
    kinds: frozenset[str],
) -> Candidate:
    engine = settings.engine
    # Packing needs room for a second form of the weights; without it they live on the heap.
    will_be_prepared = is_prepared or (engine.prepare and disk_bytes < machine.disk_free_bytes)
    judge = judge_of(
        engine,
        shape,
        quantization,
        free_bytes=machine.free_bytes or 0,
        is_prepared=will_be_prepared,
        longest_context=longest_context,
    )
    kv = choose(engine.kv_dtype, judge, kinds)
    return Candidate(
        name=name,
        is_here=is_here,
        is_prepared=is_prepared,
        disk_bytes=disk_bytes,
        kv=kv,
        fit=judge(kv.kv_dtype),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def _lines(report: Report) -> Iterator[str]:
    """Yield the report for people."""
    machine = report.machine
    yield _row("machine", f"{machine.arch}, {machine.bits} bits, {machine.cpu or 'unknown CPU'}")
    yield _row("features", " ".join(machine.features) or "none that matter")
    yield _row("cores", f"{report.cores} usable")
    yield _row("glibc", machine.glibc or "none")
    runtime = report.runtime
    yield _row("onnxruntime", f"{runtime.version} loads" if runtime.version else "does not load")
    yield _row("memory", _memory(machine))
    yield _row("disk", f"{machine.disk_free_bytes / _GB:.1f} GB free")
    for obstacle in report.obstacles:
        yield _row("PROBLEM", obstacle)
    for candidate in report.candidates:
        yield ""
        yield from _candidate_lines(candidate, is_asked=candidate.name == report.model)


def _peer_lines(settings: config.Config, report: Report) -> Iterator[str]:
    from edge_agent.cli import doctor_peers  # noqa: PLC0415  # heavy imports wait for the verb

    if settings.peers:
        yield ""
        yield from doctor_peers.lines(settings, report.peers)


def _memory(machine: Machine) -> str:
    def gigabytes(number: int | None) -> str:
        return "unknown" if number is None else f"{number / _GB:.1f} GB"

    limit = (
        "no limit by a control group"
        if machine.limit_bytes is None
        else f"limited to {gigabytes(machine.limit_bytes)} by a control group"
    )
    swap = f", {gigabytes(machine.swap_bytes)} of swap (not counted)" if machine.swap_bytes else ""
    return f"{gigabytes(machine.memory_bytes)}, {gigabytes(machine.free_bytes)} free, {limit}{swap}"


def _candidate_lines(candidate: Candidate, *, is_asked: bool) -> Iterator[str]:
    """Yield what is said of a model: of the one in question with the whole sum."""
    judged = candidate.fit
    where = "prepared" if candidate.is_prepared else "here" if candidate.is_here else "not here"
    yield f"{candidate.name} ({where}): {judged.verdict}"
    if is_asked:
        yield f"  KV cache in {candidate.kv.kv_dtype}: {candidate.kv.reason}"
        for line in judged.lines:
            kind = "file pages" if line.is_file else "memory"
            yield f"  {line.num_bytes / _MB:8.0f} MB  {line.what}: {line.how} ({kind})"
    yield (
        f"  {judged.needed_bytes / _MB:8.0f} MB  needed of {judged.available_bytes / _MB:.0f} MB, "
        f"which is what is free less {RESERVE_BYTES / _MB:.0f} MB for other programs"
    )
    if candidate.disk_bytes:
        yield f"  {candidate.disk_bytes / _MB:8.0f} MB  of disk, beside what a download takes"
    yield f"  longest context that fits: {judged.longest_context} tokens a slot"


def _row(name: str, value: str) -> str:
    return f"{name:12} {value}"

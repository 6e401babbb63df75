"""Our own packages for a race, made once: noise of Phi-4-mini's shape, and SmolLM2 twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.cli.random_weights import cache_dir, noise_name, noise_package
from edge_agent.modelstore.card import Precision
from tests.bench import names

if TYPE_CHECKING:
    from collections.abc import Mapping

# Among the models of the peers: vLLM serves it.
_CHECKPOINT = "smollm2-hf"
_CARD = "phi-4-mini-instruct"
# What the peers' generators make: everything in 4 bits, the head too.
_LARGE = Precision(bits=4, block=128, head_bits=4)
_INT4 = ("--bits=4", "--block=32", "--head-bits=4", "--activations=int8")


def large(environ: Mapping[str, str]) -> Path:
    """Return where the large package is, or will be: `EDGE_BENCH_PACKAGE`, else noise."""
    if named := environ.get("EDGE_BENCH_PACKAGE"):
        return Path(named)
    return cache_dir(environ) / "models" / noise_name(_CARD, _LARGE)


def small_home(environ: Mapping[str, str]) -> Path:
    """Return the daemon's home with the small packages: `EDGE_BENCH_HOME`, else in the cache."""
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(environ.get("EDGE_BENCH_HOME") or Path(cache) / "edge-agent" / "race").expanduser()


def missing(environ: Mapping[str, str], peers_models: Path) -> tuple[Path, ...]:
    """Return the packages that `make` has to make."""
    models = small_home(environ) / "models"
    wanted = [] if environ.get("EDGE_BENCH_PACKAGE") else [large(environ)]
    wanted.append(models / names.SHIPPED)
    if (peers_models / _CHECKPOINT).exists():
        wanted.append(models / names.INT4)
    return tuple(path for path in wanted if not path.exists())


def make(environ: Mapping[str, str], peers_models: Path) -> None:
    """Make what is missing, and prepare all: noise unless the environment names a package, SmolLM2
    as it is shipped, and the same weights in 4 bits from the checkpoint that peers have.

    A small one that fails says why; the race then goes on without it.

    Raises:
        ModelError: there is no room for noise.
    """
    if not environ.get("EDGE_BENCH_PACKAGE"):
        noise_package(_CARD, _LARGE)
    _make_small(small_home(environ), peers_models / _CHECKPOINT)


def daemon_home(home: Path, package: str) -> Path:
    """Return the home of the daemon that serves `package`: each wants one for itself."""
    return home / "daemons" / package


def share_models(home: Path, daemon: Path) -> None:
    """Make the home `daemon`, whose models are those of `home`."""
    daemon.mkdir(parents=True, exist_ok=True)
    models = daemon / "models"
    if not models.exists():
        models.symlink_to(home / "models")


def _make_small(home: Path, checkpoint: Path) -> None:
    if not (home / "models" / names.SHIPPED).exists():
        _model(home, "pull", names.SHIPPED)
    if not (home / "models" / names.INT4).exists() and checkpoint.exists():
        _model(home, "import", str(checkpoint), f"--name={names.INT4}", *_INT4)
    for name in (names.SHIPPED, names.INT4):
        if (home / "models" / name).exists():
            _model(home, "prepare", name, "--quick")
        share_models(home, daemon_home(home, name))


def _model(home: Path, *verb: str) -> None:
    argv = [sys.executable, "-m", "edge_agent", "model", *verb]
    environ = {**os.environ, "EDGE_AGENT_HOME": str(home)}
    subprocess.run(argv, env=environ, check=False, stdout=sys.stderr)

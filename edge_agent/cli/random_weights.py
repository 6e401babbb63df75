"""Makes packages of random weights in a cache directory: speed and memory without a download."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent import config
from edge_agent.modelstore import disk
from edge_agent.modelstore.catalog import catalog_of
from edge_agent.modelstore.fit import packed_bytes, planned, raw_bytes
from edge_agent.modelstore.importing import run_import
from edge_agent.modelstore.progress import Progress
from edge_agent.modelstore.store import ModelStore
from edge_agent.modelstore.workshop import opened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edge_agent.modelstore.card import Card, Precision
    from edge_agent.modelstore.catalog import Catalog
    from edge_agent.modelstore.manifest import Quantization

_GB = 1e9
_MODULE = "edge_agent.importers.noise"


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where packages of noise are kept: what is there can be removed at any time."""
    cache = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/root")) / ".cache"
    return Path(cache) / "edge-agent" / "random-weights"


def noise_name(name: str, asked: Precision) -> str:
    """Return what the package of noise as large as the model of card `name` is called.

    Raises:
        ModelNotFound: there is no such card.
        ModelError: the card does not tell its dimensions.
    """
    card = _card(catalog_of(config.home_dir()), name)
    _, kind = planned(card, asked)
    return _name_of(card, kind)


def noise_package(name: str, asked: Precision) -> Path:
    """Return a prepared package of noise as large as the model of card `name`, made if need be.

    Raises:
        ModelNotFound: there is no such card.
        ModelError: the card does not tell its dimensions, or the disk is too small.
    """
    progress = Progress(sys.stderr)
    catalog = catalog_of(config.home_dir())
    card = _card(catalog, name)
    shape, kind = planned(card, asked)
    raw, packed = raw_bytes(shape, kind), packed_bytes(shape, kind)
    package_name = _name_of(card, kind)
    store = ModelStore(cache_dir())
    if package_name not in store.names():
        progress.say(f"making {(raw + packed) / _GB:.1f} GB of random weights in {cache_dir()}")
        with opened(package_name, store, progress) as workshop:
            if not workshop.is_done:
                disk.require(f"making {package_name}", raw + packed, workshop.staging)
                options = [f"--bits={kind.bits}", f"--block={kind.block}"]
                options.append(f"--head-bits={kind.head_bits}")
                source = catalog.path(card.name)
                workshop.build(
                    lambda package: run_import(
                        workshop, source, package, options, about_bytes=raw, module=_MODULE
                    )
                )
    # In a child: what packing takes must not be in the figures of this process.
    argv = [sys.executable, "-m", "edge_agent", "model", "prepare", package_name]
    environ = {**os.environ, "EDGE_AGENT_HOME": str(cache_dir())}
    if subprocess.run(argv, env=environ, check=False).returncode != 0:
        progress.say("the weights stay as they are, on the heap")
    return store.package(package_name)


def _card(catalog: Catalog, name: str) -> Card:
    return catalog.card(catalog.base(name))


def _name_of(card: Card, kind: Quantization) -> str:
    return f"{card.name}-noise-{kind.bits}-{kind.block}-{kind.head_bits}"

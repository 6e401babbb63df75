"""Prepares a model from its card: fetches weights, has a child import them, publishes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.modelstore.fetching import download_bytes, fetch
from edge_agent.modelstore.importing import run_import
from edge_agent.modelstore.lock import holding
from edge_agent.modelstore.progress import Terms
from edge_agent.modelstore.sources import describe
from edge_agent.modelstore.workshop import opened

if TYPE_CHECKING:
    from pathlib import Path

    from edge_agent.modelstore.card import Card
    from edge_agent.modelstore.catalog import Catalog
    from edge_agent.modelstore.progress import Progress
    from edge_agent.modelstore.store import ModelStore
    from edge_agent.modelstore.workshop import Workshop


def pull(name: str, *, store: ModelStore, catalog: Catalog, progress: Progress) -> Path:
    """Return the directory of package `name`, prepared from its card if it is not there.

    Of a variant, it is the package of its base.

    Raises:
        ModelNotFound: there is no such card.
        ModelError: the source or the disk fails; the sentence says how. Another try resumes.
    """
    base = catalog.base(name)
    if base not in store.names():
        card = catalog.card(base)
        with opened(base, store, progress) as workshop:
            if not workshop.is_done:
                _prepare(card, catalog.path(base), workshop)
    elif store.has_leftovers(base):  # of a pull that was killed after it had published
        with opened(base, store, progress):
            pass
    return store.package(base)


def remove(name: str, *, store: ModelStore, progress: Progress) -> None:
    """Remove package `name`, after whoever prepares it.

    Raises:
        ModelNotFound: there is none.
    """
    with holding(
        store.lock_file(name),
        lambda: progress.say(f"another process prepares {name}; waiting for it"),
    ):
        store.remove(name)


def terms(card: Card) -> Terms:
    """Return what to know before `card` is pulled."""
    return Terms(
        model=card.name,
        title=card.title,
        licence=card.licence,
        source=describe(card.source),
        download_bytes=download_bytes(card.source),
        package_bytes=card.package_bytes,
    )


def _prepare(card: Card, path: Path, workshop: Workshop) -> None:
    workshop.progress.show_terms(terms(card))
    weights = fetch(card, workshop)
    options = ["--card", str(path), "--origin", weights.origin]
    workshop.build(
        lambda package: run_import(
            workshop, weights.path, package, options, about_bytes=card.package_bytes
        )
    )

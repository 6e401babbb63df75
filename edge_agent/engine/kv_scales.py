"""The scales of an int8 KV cache: one for every channel of every layer's K and V.

They lie beside the weights in a file of their own, because they come from running the model: the
import makes one, and `model calibrate` another that goes before it. The op has one set for all
slots and positions, so they are fixed for as long as the model is loaded.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from edge_agent.errors import ModelError
from edge_agent.modelstore.scales import find_scales

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edge_agent.modelstore.manifest import Shape


def read_kv_scales(package: Path, shape: Shape) -> NDArray[np.float32]:
    """Return the scales of `package`, float32 [layers, 2, kv_heads, head_dim], K before V.

    Raises:
        ModelError: they were never made, or the file is not what it should be.
    """
    path = find_scales(package)
    if path is None:
        msg = f"{package}: an int8 KV cache needs scales that were not made yet; {_remedy(package)}"
        raise ModelError(msg)
    dimensions = _dimensions(shape)
    expected_bytes = 4 * int(np.prod(dimensions, dtype=np.int64))
    try:
        actual_bytes = path.stat().st_size
        if actual_bytes != expected_bytes:
            msg = f"{path} has {actual_bytes} bytes, not {expected_bytes}; {_remedy(package)}"
            raise ModelError(msg)
        scales = np.fromfile(path, "<f4").reshape(dimensions)
    except OSError as exc:
        msg = f"{path}: {exc.strerror}"
        raise ModelError(msg) from exc
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        msg = f"{path} holds scales that are not positive numbers; {_remedy(package)}"
        raise ModelError(msg)
    return scales.astype(np.float32, copy=False)


def write_kv_scales(path: Path, shape: Shape, scales: NDArray[np.float32]) -> None:
    """Write `scales` [layers, 2, kv_heads, head_dim] to the file `path`, whole or not at all.

    Raises:
        OSError: disk full, or the directory cannot be written.
    """
    if scales.shape != _dimensions(shape):
        msg = f"scales {scales.shape} do not belong to {shape}"
        raise ValueError(msg)
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        file.write(scales.astype("<f4").tobytes())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _dimensions(shape: Shape) -> tuple[int, int, int, int]:
    return shape.layers, 2, shape.kv_heads, shape.head_dim


def _remedy(package: Path) -> str:
    return f"make them with `edge-agent model calibrate {package.name}`"

"""The array types that importers speak of."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Raw = NDArray[np.uint8]
"""Bytes as they are stored."""
F32 = NDArray[np.float32]

"""Roaring bitmaps of 32 bits in their portable form, read from bytes that may be damaged."""

from __future__ import annotations

import numpy as np
from pyroaring import BitMap

_MAX_CARDINALITY = 1 << 28


def read_bitmap(data: bytes) -> tuple[BitMap, int]:
    """A bitmap at the beginning of the bytes, and how many of them it took. Raises ValueError."""
    bitmap = BitMap.deserialize(data)
    if len(bitmap) > _MAX_CARDINALITY:
        raise ValueError(f"its bitmap holds {len(bitmap)} positions, more than any data file has rows")
    positions = np.frombuffer(bitmap.to_array(), dtype=np.uint32)
    if positions.size != len(bitmap) or not bool((positions[1:] > positions[:-1]).all()):
        raise ValueError("its bitmap is not in order")
    size = len(bitmap.serialize())
    if size > len(data):
        raise ValueError("its bitmap is cut")
    return bitmap, size

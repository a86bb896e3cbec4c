"""Roaring bitmaps of 64 bits in their portable form, taken apart into containers and put together.

Spec: the public RoaringFormatSpec. A bitmap is a set of containers, one for each 16 high bits; the form of 64 bits is a bitmap of
32 bits for each 32 high bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

MOST_IN_ARRAY = 4096
BITSET_BYTES = 8192
_COOKIE, _COOKIE_WITH_RUNS = 12346, 12347
_OFFSETS_FROM = 4
"""So few containers have no offsets, if one of them is of runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Up to 65536 numbers of 16 bits: runs, else a sorted array of up to 4096, else a bitset. ``body`` is the portable form."""

    is_runs: bool
    cardinality: int
    body: bytes


def containers_of(portable: bytes) -> Iterator[tuple[int, Container]]:
    """The containers of a bitmap of 64 bits, each with its 48 high bits, ascending. REQUIRES: undamaged bytes."""
    (bitmaps,) = struct.unpack_from("<Q", portable)
    at = 8
    for _ in range(bitmaps):
        high, cookie = struct.unpack_from("<II", portable, at)
        at += 8
        if (cookie & 0xFFFF) == _COOKIE_WITH_RUNS:
            count = (cookie >> 16) + 1
            flags = int.from_bytes(portable[at : at + (count + 7) // 8], "little")
            at += (count + 7) // 8
        else:
            (count,) = struct.unpack_from("<I", portable, at)
            flags, at = 0, at + 4
        heads = struct.unpack_from(f"<{2 * count}H", portable, at)
        at += 4 * count + (4 * count if not flags or count >= _OFFSETS_FROM else 0)
        for place, (low, most) in enumerate(zip(heads[::2], heads[1::2], strict=True)):
            is_runs, cardinality = bool(flags >> place & 1), most + 1
            size = 2 * cardinality if cardinality <= MOST_IN_ARRAY else BITSET_BYTES
            if is_runs:
                size = 2 + 4 * struct.unpack_from("<H", portable, at)[0]
            body = portable[at : at + size]
            at += size
            yield high << 16 | low, Container(is_runs=is_runs, cardinality=cardinality, body=body)


def portable_of(containers: Mapping[int, Container]) -> bytes:
    """The bitmap of 64 bits that has these containers by their 48 high bits, which ascend."""
    bitmaps: dict[int, dict[int, Container]] = {}
    for key, container in containers.items():
        bitmaps.setdefault(key >> 16, {})[key & 0xFFFF] = container
    parts = [struct.pack("<I", high) + _portable32(bitmap) for high, bitmap in bitmaps.items()]
    return struct.pack("<Q", len(parts)) + b"".join(parts)


def _portable32(containers: Mapping[int, Container]) -> bytes:
    count = len(containers)
    flags = sum(1 << place for place, container in enumerate(containers.values()) if container.is_runs)
    if flags:
        head = struct.pack("<I", _COOKIE_WITH_RUNS | (count - 1) << 16) + flags.to_bytes((count + 7) // 8, "little")
    else:
        head = struct.pack("<II", _COOKIE, count)
    head += b"".join(struct.pack("<HH", low, container.cardinality - 1) for low, container in containers.items())
    bodies = [container.body for container in containers.values()]
    if not flags or count >= _OFFSETS_FROM:
        sizes = np.array([len(head) + 4 * count, *map(len, bodies[:-1])], np.uint32)
        head += np.cumsum(sizes, dtype="<u4").tobytes()
    return head + b"".join(bodies)

"""Bloom filters of file indexes: the number of hash functions, then the bits, the lowest of each byte first.

Spec: "File index / BloomFilter" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_COUNT = struct.Struct(">i")
_BYTE_BITS = 8
_MOST_FUNCTIONS = 256

Hashes = npt.NDArray[np.uint64]


def write_bloom_filter(hashes: Hashes, *, items: int, fpp: float) -> bytes:
    """A filter of these hashes, dimensioned for ``items`` values and a share ``fpp`` of false positives."""
    functions, bits = _dimensions(items, fpp)
    chosen = np.zeros(bits, np.bool_)
    for positions in _positions(hashes, functions, bits):
        chosen[positions] = True
    return _COUNT.pack(functions) + np.packbits(chosen, bitorder="little").tobytes()


def is_dimensioned(body: bytes, *, items: int, fpp: float) -> bool:
    """Whether a filter is as large as one for ``items`` values and a share ``fpp`` of false positives."""
    functions, bits = _dimensions(items, fpp)
    return body[: _COUNT.size] == _COUNT.pack(functions) and len(body) == _COUNT.size + bits // _BYTE_BITS


def _dimensions(items: int, fpp: float) -> tuple[int, int]:
    """The number of hash functions, and of bits."""
    least = int(-items * math.log(fpp) / math.log(2) ** 2)
    bits = least + (_BYTE_BITS - least % _BYTE_BITS)
    return max(1, math.floor(bits / items * math.log(2) + 0.5)), bits


def may_contain(body: bytes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """For each hash, whether its value may be there. Raises ValueError for what is no filter."""
    bits = (len(body) - _COUNT.size) * _BYTE_BITS
    if bits < 1:
        raise ValueError("its bloom filter is cut")
    (functions,) = _COUNT.unpack_from(body)
    if not 1 <= functions <= _MOST_FUNCTIONS:
        raise ValueError(f"its bloom filter says that it has {functions} hash functions")
    content = np.frombuffer(body, np.uint8, offset=_COUNT.size)
    found = np.ones(hashes.size, np.bool_)
    for positions in _positions(hashes, functions, bits):
        found &= (content[positions >> 3] >> (positions & 7).astype(np.uint8) & 1).astype(np.bool_)
    return found


def _positions(hashes: Hashes, functions: int, bits: int) -> Iterator[npt.NDArray[np.int64]]:
    """The bit of each hash, function by function, in Java's arithmetic of 32 bits."""
    low, high = hashes.astype(np.uint32).view(np.int32), (hashes >> np.uint64(32)).astype(np.uint32).view(np.int32)
    for number in range(1, functions + 1):
        combined = low + np.int32(number) * high
        yield np.where(combined < 0, ~combined, combined).astype(np.int64) % bits

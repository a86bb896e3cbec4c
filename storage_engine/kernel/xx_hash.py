"""xxHash64 of many byte strings at once.

Spec: "XXH64 algorithm description" of xxHash, seed 0; stripe by stripe over all strings that have one.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]
Indexes: TypeAlias = npt.NDArray[np.int64]

_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        11400714785074694791,
        14029467366897019727,
        1609587929392839161,
        9650029242287828579,
        2870177450012600261,
    )
)
_STRIPE, _LANE, _HALF = 32, 8, 4


def xx_hash64(data: npt.NDArray[np.uint8], starts: Indexes, lengths: Indexes) -> Hashes:
    """The hash of each ``data[start : start + length]``."""
    hashes = np.full(starts.size, _P5, np.uint64)
    long = np.flatnonzero(lengths >= _STRIPE)
    if long.size:
        hashes[long] = _stripes(data, starts[long], lengths[long] // _STRIPE)
    hashes += lengths.astype(np.uint64)
    hashes = _rest(data, starts + lengths // _STRIPE * _STRIPE, lengths % _STRIPE, hashes)
    hashes = (hashes ^ (hashes >> np.uint64(33))) * _P2
    hashes = (hashes ^ (hashes >> np.uint64(29))) * _P3
    return hashes ^ (hashes >> np.uint64(32))


def _stripes(data: npt.NDArray[np.uint8], starts: Indexes, stripes: Indexes) -> Hashes:
    with np.errstate(over="ignore"):
        seeds = (_P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1)
    lanes = [np.full(starts.size, seed, np.uint64) for seed in seeds]
    for stripe in range(int(stripes.max())):
        has = np.flatnonzero(stripes > stripe)
        for number, lane in enumerate(lanes):
            lane[has] = _round(lane[has], _words(data, starts[has] + stripe * _STRIPE + number * _LANE, _LANE))
    hashes = np.zeros(starts.size, np.uint64)
    for lane, by in zip(lanes, (1, 7, 12, 18), strict=True):
        hashes += _rotated(lane, by)
    for lane in lanes:
        hashes = (hashes ^ _round(np.zeros_like(lane), lane)) * _P1 + _P4
    return hashes


def _rest(data: npt.NDArray[np.uint8], starts: Indexes, lengths: Indexes, hashes: Hashes) -> Hashes:
    for lane in range(_STRIPE // _LANE - 1):
        has = np.flatnonzero(lengths >= (lane + 1) * _LANE)
        word = _words(data, starts[has] + lane * _LANE, _LANE)
        hashes[has] = _rotated(hashes[has] ^ _round(np.zeros_like(word), word), 27) * _P1 + _P4
    starts = starts + lengths // _LANE * _LANE
    has = np.flatnonzero(lengths % _LANE >= _HALF)
    hashes[has] = _rotated(hashes[has] ^ (_words(data, starts[has], _HALF) * _P1), 23) * _P2 + _P3
    starts = starts + lengths % _LANE // _HALF * _HALF
    for byte in range(_HALF - 1):
        has = np.flatnonzero(lengths % _HALF > byte)
        hashes[has] = _rotated(hashes[has] ^ (data[starts[has] + byte].astype(np.uint64) * _P5), 11) * _P1
    return hashes


def _words(data: npt.NDArray[np.uint8], starts: Indexes, size: int) -> Hashes:
    """Little-endian words of 4 or 8 bytes."""
    parts = np.ascontiguousarray(data[starts[:, None] + np.arange(size)])
    return parts.view(f"<u{size}")[:, 0].astype(np.uint64) if starts.size else np.empty(0, np.uint64)


def _round(lane: Hashes, word: Hashes) -> Hashes:
    return _rotated(lane + word * _P2, 31) * _P1


def _rotated(values: Hashes, by: int) -> Hashes:
    return (values << np.uint64(by)) | (values >> np.uint64(64 - by))

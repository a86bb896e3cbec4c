"""Deletion vectors: which rows of a data file are gone, and the index files with one vector per data file.

Spec: "Deletion Vectors" of Apache Paimon. Positions are 0-based physical rows of the data file::

    file := 0x01 vector*                    back to back, in the order of their ranges
    v1   := size | magic | bitmap           | crc32(magic..)    int32, big-endian
    v2   := size | magic | n (key bitmap)*n | crc32(magic..)    size, crc32: int32 big-endian;
                                                                magic, key: int32, n: int64, little-endian

A bitmap is a 32-bit roaring bitmap in its portable form; v2 writes one for every key from 0 to the highest.
The length of a range leaves out the size field and the checksum in v1, and counts every byte in v2.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap, BitMap64

from storage_engine.codec.roaring import read_bitmap
from storage_engine.errors import CorruptFile, InvalidInput
from storage_engine.spec.manifest import DeletionVectorRange

_VERSION_BYTE = b"\x01"
_MAGIC_V1 = struct.pack(">i", 1581511376)
_MAGIC_V2 = struct.pack("<i", 1681511377)
_SIZE_BYTES = _CHECKSUM_BYTES = 4
_FRAME_BYTES = _SIZE_BYTES + _CHECKSUM_BYTES
_MAX_POSITION_V1 = (1 << 31) - 1
_MAX_KEY_V2 = 1 << 16
_LOW_BITS = 32

Positions = npt.NDArray[np.uint64]


class DeletionVector:
    """An immutable set of row positions; false if it is empty."""

    __slots__ = ("_bitmap",)

    def __init__(self, positions: Iterable[int] = ()) -> None:
        """Raises InvalidInput for what is not a row position."""
        try:
            self._bitmap = BitMap64(_packed(positions))
        except (OverflowError, TypeError, ValueError) as cause:
            raise InvalidInput(f"row positions must be whole numbers from 0: {cause}") from cause

    def __len__(self) -> int:
        return len(self._bitmap)

    def __contains__(self, position: int) -> bool:
        return position in self._bitmap

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeletionVector) and bool(self._bitmap == other._bitmap)

    def __hash__(self) -> int:
        return hash(tuple(self._bitmap))

    def __repr__(self) -> str:
        return f"DeletionVector({len(self)} positions)"

    def positions(self) -> Positions:
        """The positions, ascending, as UInt64."""
        return np.frombuffer(self._bitmap.to_array(), dtype=np.uint64)

    def with_positions(self, positions: Iterable[int]) -> DeletionVector:
        """These positions and more."""
        more = DeletionVector(positions)
        more._bitmap |= self._bitmap
        return more


def _packed(positions: Iterable[int]) -> Iterable[int]:
    """The same, numbers of numpy as the bitmap takes them without looking at each."""
    if not isinstance(positions, np.ndarray) or positions.dtype.kind not in "iu":
        return positions
    if positions.dtype.kind == "i" and positions.size and positions.min() < 0:
        raise ValueError(f"{positions.min()} is below 0")
    return array("Q", positions.astype(np.uint64).tobytes())


def write_deletion_vectors(
    vectors: Mapping[str, DeletionVector], *, bitmap64: bool = False
) -> tuple[bytes, list[DeletionVectorRange]]:
    """The bytes of an index file and where each vector lies in it. No vectors give the empty file.

    Raises InvalidInput for a position that the encoding cannot hold.
    """
    content = bytearray(_VERSION_BYTE)
    ranges = []
    for name, vector in vectors.items():
        encoded = encode_deletion_vector(vector, bitmap64=bitmap64)
        ranges.append(
            DeletionVectorRange(
                data_file_name=name,
                offset=len(content),
                length=len(encoded) if bitmap64 else len(encoded) - _FRAME_BYTES,
                cardinality=len(vector),
            )
        )
        content += encoded
    return bytes(content), ranges


def read_deletion_vectors(
    data: bytes, ranges: Sequence[DeletionVectorRange], *, path: str
) -> dict[str, DeletionVector]:
    """The vectors of an index file by data file name. Raises CorruptFile, naming ``path``."""
    if data[:1] != _VERSION_BYTE:
        raise CorruptFile(f"{path}: not a deletion vector file of version 1")
    vectors = {}
    for part in ranges:
        try:
            vectors[part.data_file_name] = _read_range(data, part)
        except (ValueError, IndexError, struct.error) as cause:
            raise CorruptFile(f"{path}: the deletion vector of {part.data_file_name}: {cause}") from cause
    return vectors


def encode_deletion_vector(vector: DeletionVector, *, bitmap64: bool = False) -> bytes:
    """One vector with its size and checksum. Raises InvalidInput for a position that it cannot hold."""
    positions = vector.positions()
    content = _content_v2(positions) if bitmap64 else _content_v1(positions)
    return struct.pack(">i", len(content)) + content + struct.pack(">I", zlib.crc32(content))


def _content_v1(positions: Positions) -> bytes:
    if positions.size and positions[-1] > _MAX_POSITION_V1:
        raise InvalidInput(f"row position {positions[-1]} needs option 'deletion-vectors.bitmap64' = 'true'")
    return _MAGIC_V1 + _bitmap_bytes(positions)


def _content_v2(positions: Positions) -> bytes:
    keys = positions >> np.uint64(_LOW_BITS)
    count = int(keys[-1]) + 1 if keys.size else 0
    if count > _MAX_KEY_V2:
        raise InvalidInput(f"row position {positions[-1]} is out of range")
    bounds = np.searchsorted(keys, np.arange(count + 1, dtype=np.uint64))
    parts = [struct.pack("<I", key) + _bitmap_bytes(positions[bounds[key] : bounds[key + 1]]) for key in range(count)]
    return _MAGIC_V2 + struct.pack("<q", count) + b"".join(parts)


def _bitmap_bytes(positions: Positions) -> bytes:
    bitmap = BitMap(positions.astype(np.uint32))
    bitmap.run_optimize()
    return bytes(bitmap.serialize())


def _read_range(data: bytes, part: DeletionVectorRange) -> DeletionVector:
    if part.offset < len(_VERSION_BYTE):
        raise ValueError(f"its offset is {part.offset}")
    (size,) = struct.unpack_from(">i", data, part.offset)
    start = part.offset + _SIZE_BYTES
    if size < len(_MAGIC_V1) or start + size + _CHECKSUM_BYTES > len(data):
        raise ValueError(f"its size is said to be {size}; the file is cut or the range is wrong")
    content = data[start : start + size]
    if struct.unpack_from(">I", data, start + size) != (zlib.crc32(content),):
        raise ValueError("its checksum is wrong")
    magic = content[: len(_MAGIC_V1)]
    if magic not in (_MAGIC_V1, _MAGIC_V2):
        raise ValueError(f"its magic number {magic.hex()} is not known")
    if part.length != (size if magic == _MAGIC_V1 else size + _FRAME_BYTES):
        raise ValueError(f"its size {size} does not match the length {part.length} of its range")
    vector = DeletionVector()
    for key, bitmap in _bitmaps(magic, content[len(magic) :]):
        high = np.uint64(key << _LOW_BITS)
        vector = vector.with_positions(np.frombuffer(bitmap.to_array(), dtype=np.uint32).astype(np.uint64) | high)
    if part.cardinality not in (None, len(vector)):
        raise ValueError(f"it holds {len(vector)} positions, not {part.cardinality}")
    return vector


def _bitmaps(magic: bytes, body: bytes) -> Iterator[tuple[int, BitMap]]:
    if magic == _MAGIC_V1:
        bitmap, size = read_bitmap(body)
        yield 0, bitmap
        rest = body[size:]
    else:
        (count,) = struct.unpack_from("<q", body)
        if not 0 <= count <= _MAX_KEY_V2:
            raise ValueError(f"it is said to hold {count} bitmaps")
        rest = body[8:]
        for _ in range(count):
            (key,) = struct.unpack_from("<I", rest)
            bitmap, size = read_bitmap(rest[4:])
            yield key, bitmap
            rest = rest[4 + size :]
    if rest:
        raise ValueError(f"{len(rest)} bytes follow its bitmaps")

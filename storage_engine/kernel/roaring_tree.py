"""Roaring bitmaps of 64 bits as Java's ``Roaring64Bitmap`` serializes them: a radix tree over the containers of a roaring bitmap.

Spec: aggregate function ``rbm64`` of Apache Paimon 1.3.1, which stores the form of RoaringBitmap 1.2.1. A key is the 48 high bits
of a number. Little-endian, but for the key of a leaf::

    bitmap     := 0x00 | 0x01 keys:int64 node containers
    node       := kind:int8 children:int16 length:int8 prefix body node*        a node's children in the order of their bytes
    body       := byte*4, byte*16      kinds 0 and 1: the children's bytes, reversed in each 4 or 8
                | place*256            kind 2: for each byte its child's place or 0xFF, reversed in each 8
                | bit*256              kind 3: which bytes have a child
                | key:6 place:int64    kind 4, a leaf, without children: where its container is: array << 32 | index
    containers := n:int32 array*n size:int64 last_array:int32 last_index:int32
    array      := -2 n:int32 (0x00 | 0x01 kind:int8 cardinality:int32 numbers)*n
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
from pyroaring import BitMap64

from storage_engine.kernel.roaring_containers import BITSET_BYTES, MOST_IN_ARRAY, Container, containers_of, portable_of

_EMPTY, _KEYS_FOLLOW = b"\x00", b"\x01"
_KEY_BYTES = 6
_LEAF = 4
_BODY_BYTES = (4, 16, 256, 32)
_MOST_CHILDREN = (4, 16, 48, 256)
_RUNS, _BITSET, _ARRAY = range(3)
_NOT_TRIMMED = -2
_HIGHEST = 0xFFFF

Leaf = tuple[bytes, int]
"""A key, and the place of its container."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def bytes(self, count: int) -> bytes:
        part = self._data[self._at : self._at + count]
        if len(part) < count:
            raise ValueError("its bitmap is cut")
        self._at += count
        return part

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.bytes(struct.calcsize(form)))


def read_bitmap64(data: bytes) -> BitMap64:
    """The bitmap in Java's form. Raises ValueError."""
    reader = _Reader(data)
    tag = reader.bytes(1)
    if tag == _EMPTY:
        return BitMap64()
    if tag != _KEYS_FOLLOW:
        raise ValueError(f"its bitmap begins with {tag[0]}, which is neither 0 (empty) nor 1")
    (count,) = reader.numbers("<q")
    leaves = _leaves(reader)
    if len(leaves) != count or len(set(leaves.values())) != count:
        raise ValueError(f"its bitmap says that it has {count} keys, and has {len(leaves)}")
    containers = _containers(reader)
    if missing := leaves.values() - containers.keys():
        raise ValueError(f"its bitmap has no container {min(missing)}")
    return BitMap64.deserialize(portable_of({key: containers[place] for key, place in leaves.items()}))


def _leaves(reader: _Reader) -> dict[int, int]:
    """The keys of a tree, ascending, with the places of their containers. A leaf has its whole key."""
    leaves: dict[int, int] = {}
    waiting, last = 1, -1
    while waiting:
        kind, children, length = reader.numbers("<BHB")
        waiting += children - 1
        if kind == _LEAF and not children:
            key = int.from_bytes(reader.bytes(_KEY_BYTES), "big")
            if key <= last:
                raise ValueError("the keys of its bitmap are not in order")
            (leaves[key],) = reader.numbers("<q")
            last = key
        elif kind < _LEAF and 0 < children <= _MOST_CHILDREN[kind]:
            reader.bytes(length + _BODY_BYTES[kind])
        else:
            raise ValueError(f"its bitmap has a node of kind {kind} with {children} children")
    return leaves


def _containers(reader: _Reader) -> dict[int, Container]:
    found = {}
    (arrays,) = reader.numbers("<I")
    for array in range(arrays):
        _, size = reader.numbers("<bI")
        for index in range(size):
            if reader.bytes(1) != b"\x00":
                found[array << 32 | index] = _container(reader)
    reader.numbers("<qii")
    return found


def _container(reader: _Reader) -> Container:
    kind, cardinality = reader.numbers("<BI")
    if kind == _RUNS:
        return _runs(reader, cardinality)
    if kind not in (_BITSET, _ARRAY) or not 0 < cardinality <= _HIGHEST + 1:
        raise ValueError(f"its bitmap has a container of kind {kind} with {cardinality} numbers")
    if kind == _BITSET:
        bits = np.unpackbits(np.frombuffer(reader.bytes(BITSET_BYTES), np.uint8), bitorder="little")
        numbers = np.flatnonzero(bits).astype("<u2")
    else:
        numbers = np.frombuffer(reader.bytes(2 * cardinality), "<u2")
    if numbers.size != cardinality or not bool((numbers[1:] > numbers[:-1]).all()):
        raise ValueError("the numbers of its bitmap are not in order, or not as many as it says")
    return Container(is_runs=False, cardinality=cardinality, body=_body(numbers))


def _body(numbers: npt.NDArray[np.uint16]) -> bytes:
    """Sorted numbers, in the form that the portable format has for as many."""
    if numbers.size <= MOST_IN_ARRAY:
        return numbers.tobytes()
    bits = np.zeros(_HIGHEST + 1, np.uint8)
    bits[numbers] = 1
    return np.packbits(bits, bitorder="little").tobytes()


def _runs(reader: _Reader, cardinality: int) -> Container:
    head = reader.bytes(2)
    body = reader.bytes(4 * int.from_bytes(head, "little"))
    first, more = np.frombuffer(body, "<u2").reshape(-1, 2).astype(np.int64).T
    last = first + more
    in_order = bool((first[1:] > last[:-1]).all()) and bool((last <= _HIGHEST).all())
    if not first.size or not in_order or int(more.sum()) + first.size != cardinality:
        raise ValueError("the runs of its bitmap are not in order, or not as many as it says")
    return Container(is_runs=True, cardinality=cardinality, body=head + body)


def write_bitmap64(bitmap: BitMap64) -> bytes:
    """The bitmap in Java's form, as small as its containers can be."""
    if not bitmap:
        return _EMPTY
    smallest = bitmap.copy()
    smallest.run_optimize()
    containers = dict(containers_of(smallest.serialize()))
    count = len(containers)
    leaves = [(key.to_bytes(_KEY_BYTES, "big"), place) for place, key in enumerate(containers)]
    head = _KEYS_FOLLOW + struct.pack("<q", count) + _node(leaves, 0) + struct.pack("<IbI", 1, _NOT_TRIMMED, count)
    bodies = [
        struct.pack("<BBI", 1, _kind(container), container.cardinality) + container.body
        for container in containers.values()
    ]
    return b"".join((head, *bodies, struct.pack("<qii", count, 0, count - 1)))


def _kind(container: Container) -> int:
    if container.is_runs:
        return _RUNS
    return _ARRAY if container.cardinality <= MOST_IN_ARRAY else _BITSET


def _node(leaves: Sequence[Leaf], depth: int) -> bytes:
    """The tree of leaves whose keys, ascending, are alike in so many bytes."""
    (first, place), (last, _) = leaves[0], leaves[-1]
    if len(leaves) == 1:
        return struct.pack("<BHB", _LEAF, 0, 0) + first + struct.pack("<q", place)
    split = next(at for at in range(depth, _KEY_BYTES) if first[at] != last[at])
    children = {byte: list(mine) for byte, mine in groupby(leaves, key=lambda leaf: leaf[0][split])}
    kind = next(kind for kind, most in enumerate(_MOST_CHILDREN) if len(children) <= most)
    head = (
        struct.pack("<BHB", kind, len(children), split - depth)
        + first[depth:split]
        + _branch_body(kind, bytes(children))
    )
    return head + b"".join(_node(mine, split + 1) for mine in children.values())


def _branch_body(kind: int, children: bytes) -> bytes:
    size = _BODY_BYTES[kind]
    if _MOST_CHILDREN[kind] == size:
        return _reversed(children.ljust(size, b"\x00"))
    places = np.full(256, 0xFF, np.uint8)
    places[list(children)] = np.arange(len(children), dtype=np.uint8)
    if size == places.size:
        return _reversed(places.tobytes())
    return np.packbits(places != 0xFF, bitorder="little").tobytes()


def _reversed(row: bytes) -> bytes:
    """Each word of up to 8 bytes back to front."""
    word = min(len(row), 8)
    return np.frombuffer(row, np.uint8).reshape(-1, word)[:, ::-1].tobytes()

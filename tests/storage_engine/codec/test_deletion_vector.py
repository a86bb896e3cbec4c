"""Deletion vectors against the bytes of Paimon 1.3.1."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage_engine.codec.deletion_vector import (
    DeletionVector,
    encode_deletion_vector,
    read_deletion_vectors,
    write_deletion_vectors,
)
from storage_engine.errors import CorruptFile, InvalidInput
from storage_engine.spec.manifest import DeletionVectorRange

GOLDEN = Path(__file__).parents[2] / "golden"
VECTORS = json.loads((GOLDEN / "deletion_vectors.json").read_text())
FILES = [bytes.fromhex(file["hex"]) for file in json.loads((GOLDEN / "deletion_vector_files.json").read_text())]


def positions_of(vector: dict[str, Any]) -> list[int]:
    positions = vector["positions"]
    if isinstance(positions, list):
        return positions
    bounds, _, step = positions.removeprefix("range:").partition(" step ")
    first, last = bounds.split("..")
    return list(range(int(first), int(last) + 1, int(step)))


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"v{vector['version']} {vector['name']}")
def test_vectors_are_written_and_read_as_by_paimon(vector: dict[str, Any]) -> None:
    ours = DeletionVector(positions_of(vector))
    bitmap64 = vector["version"] == 2
    encoded = encode_deletion_vector(ours, bitmap64=bitmap64)
    assert len(encoded) == vector["serialized_len"]
    if vector["hex"].startswith("(omitted, sha1 "):
        assert hashlib.sha1(encoded).hexdigest() in vector["hex"]
    else:
        assert encoded.hex() == vector["hex"]
    data, ranges = write_deletion_vectors({"f": ours}, bitmap64=bitmap64)
    assert (ranges[0].offset, ranges[0].length) == (1, vector["meta_length"])
    assert ranges[0].cardinality == vector["cardinality"]
    assert read_deletion_vectors(data, ranges, path="x") == {"f": ours}


def test_whole_files_of_paimon_are_read() -> None:
    part = {"data_file_name": "f", "offset": 1, "cardinality": 2}
    assert read_deletion_vectors(FILES[1], [DeletionVectorRange(**part, length=24)], path="x") == {
        "f": DeletionVector([3, 7])
    }
    assert read_deletion_vectors(FILES[3], [DeletionVectorRange(**part, length=44)], path="x") == {
        "f": DeletionVector([3, 7])
    }
    assert FILES[0] == FILES[2] == write_deletion_vectors({})[0]
    assert read_deletion_vectors(FILES[0], [], path="x") == {}


@given(st.dictionaries(st.text(min_size=1), st.sets(st.integers(0, 2**31 - 1), max_size=50), max_size=4), st.booleans())
def test_files_of_several_vectors_come_back(sets: dict[str, set[int]], bitmap64: bool) -> None:
    vectors = {name: DeletionVector(positions) for name, positions in sets.items()}
    data, ranges = write_deletion_vectors(vectors, bitmap64=bitmap64)
    found = read_deletion_vectors(data, ranges, path="x")
    assert {name: set(vector.positions().tolist()) for name, vector in found.items()} == sets


@given(st.sets(st.integers(0, 2**34), max_size=20), st.integers(0, 10_000), st.integers(1, 255))
def test_any_flipped_byte_is_seen(positions: set[int], at: int, flip: int) -> None:
    data, ranges = write_deletion_vectors({"f": DeletionVector(positions)}, bitmap64=True)
    damaged = bytearray(data)
    damaged[at % len(damaged)] ^= flip
    with pytest.raises(CorruptFile, match=r"^x: "):
        read_deletion_vectors(bytes(damaged), ranges, path="x")


@given(st.binary(max_size=80), st.booleans())
def test_a_bitmap_that_is_none_is_refused_although_its_checksum_is_right(body: bytes, bitmap64: bool) -> None:
    magic = struct.pack("<i", 1681511377) if bitmap64 else struct.pack(">i", 1581511376)
    content = magic + body
    data = b"\x01" + struct.pack(">i", len(content)) + content + struct.pack(">I", zlib.crc32(content))
    part = DeletionVectorRange(
        data_file_name="f", offset=1, length=len(content) + (8 if bitmap64 else 0), cardinality=3
    )
    with suppress(CorruptFile):
        assert len(read_deletion_vectors(data, [part], path="x")["f"]) == 3


@pytest.mark.parametrize(
    "change",
    [{"offset": 0}, {"offset": 2}, {"offset": 10**9}, {"offset": -1}, {"length": 23}, {"cardinality": 3}],
    ids=str,
)
def test_a_wrong_range_is_seen(change: dict[str, int]) -> None:
    part = {"data_file_name": "f", "offset": 1, "length": 24, "cardinality": 2, **change}
    with pytest.raises(CorruptFile):
        read_deletion_vectors(FILES[1], [DeletionVectorRange(**part)], path="x")


def test_vectors_are_sets_of_positions() -> None:
    empty, some = DeletionVector(), DeletionVector(np.array([5, 3, 5]))
    more = some.with_positions([4])
    assert not empty
    assert DeletionVector(np.array([5, 3, 5], np.uint32)) == DeletionVector(iter([3, 5])) == some
    assert some.positions().tolist() == [3, 5]
    assert more.positions().tolist() == [3, 4, 5]
    assert some.positions().tolist() == [3, 5], "a vector never changes"
    assert 4 in more
    assert 4 not in some
    assert len({some, DeletionVector([3, 5]), more}) == 2


def test_what_is_no_position_is_refused() -> None:
    with pytest.raises(InvalidInput, match="row positions"):
        DeletionVector([-1])
    with pytest.raises(InvalidInput, match="row positions"):
        DeletionVector(np.array([3, -1]))
    with pytest.raises(InvalidInput, match="bitmap64"):
        encode_deletion_vector(DeletionVector([2**31]))
    with pytest.raises(InvalidInput, match="out of range"):
        encode_deletion_vector(DeletionVector([2**60]), bitmap64=True)

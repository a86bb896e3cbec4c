"""Sketches and bitmaps in aggregation: one column of each, merged by either engine."""

from __future__ import annotations

import datasketches
import polars as pl
import pytest
from pyroaring import BitMap, BitMap64

from storage_engine.kernel.roaring_tree import read_bitmap64, write_bitmap64
from tests.interop.both import Both
from tests.interop.test_types import ENGINES
from tests.interop.workload import Column, ddl

FUNCTIONS = {"hll": "hll_sketch", "theta": "theta_sketch", "rbm": "rbm32", "rbm_long": "rbm64"}
COLUMNS = {"id": Column(sql="INT NOT NULL", dtype=pl.Int32(), values=[])} | {
    name: Column(sql="BYTES", dtype=pl.Binary(), values=[]) for name in FUNCTIONS
}
OPTIONS = {"bucket": "1", "merge-engine": "aggregation", "write-only": "true"} | {
    f"fields.{name}.aggregate-function": function for name, function in FUNCTIONS.items()
}


def hll(numbers: range) -> bytes:
    sketch = datasketches.hll_sketch(12)
    for number in numbers:
        sketch.update(number)
    return bytes(sketch.serialize_compact())


def theta(numbers: range) -> bytes:
    sketch = datasketches.update_theta_sketch()
    for number in numbers:
        sketch.update(number)
    return bytes(sketch.compact().serialize())


def long_bitmap(numbers: range) -> bytes:
    """Keys of every level of the tree, those of the sign included."""
    return write_bitmap64(BitMap64(number * (2**50 + 2**33 + 2**17 + 1) % 2**64 for number in numbers[:3000]))


def estimates(row: tuple[object, ...]) -> tuple[int, int, int, int]:
    """How many distinct numbers each of the four says there are."""
    _, hll_bytes, theta_bytes, bitmap, bitmap64 = (
        part if isinstance(part, int) else bytes.fromhex(str(part)) for part in row
    )
    return (
        round(datasketches.hll_sketch.deserialize(hll_bytes).get_estimate()),
        round(datasketches.compact_theta_sketch.deserialize(theta_bytes).get_estimate()),
        len(BitMap.deserialize(bitmap)),
        len(read_bitmap64(bitmap64)),
    )


@pytest.mark.feature("Merge engines", "aggregation by hll_sketch, theta_sketch, rbm32, rbm64")
def test_sketches_are_united_alike(both: Both) -> None:
    shared = both.create("db.t", ddl(COLUMNS, ["id"]), OPTIONS)
    sizes = {1: 10, 2: 3_000, 3: 60_000}
    for step, writer in enumerate((*ENGINES, "ours")):
        parts = {key: range(step * size // 2, step * size // 2 + size) for key, size in sizes.items() if key != step}
        columns = {
            "id": list(parts),
            "hll": [hll(numbers) for numbers in parts.values()],
            "theta": [theta(numbers) for numbers in parts.values()],
            "rbm": [BitMap(numbers).serialize() if key > 1 else None for key, numbers in parts.items()],
            "rbm_long": [long_bitmap(numbers) for numbers in parts.values()],
        }
        frame = pl.DataFrame(columns, schema={name: column.dtype for name, column in COLUMNS.items()})
        shared.write(frame, by=writer)
    theirs = {row[0]: row for row in both.flink.read("db.t").rows}
    ours = {row[0]: row for row in map(tuple, canon_rows(shared))}
    for key in (2, 3):
        assert estimates(ours[key]) == estimates(theirs[key])
        assert read_bitmap64(bytes.fromhex(ours[key][4])) == read_bitmap64(bytes.fromhex(theirs[key][4]))
    assert estimates(ours[3])[2] == 120_000
    assert ours[1][3] is theirs[1][3] is None
    shared.compact(by="ours")
    again = {row[0]: row for row in both.flink.read("db.t").rows}
    assert estimates(again[3]) == estimates(ours[3])


def canon_rows(shared) -> list[tuple[object, ...]]:
    frame = shared.table.scan().collect()
    return [tuple(part.hex() if isinstance(part, bytes) else part for part in row) for row in frame.iter_rows()]

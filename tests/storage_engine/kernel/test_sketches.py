"""Sketches and bitmaps of one key are united; a lone one stays as it is."""

from __future__ import annotations

import sys
import uuid

import datasketches
import polars as pl
import pytest
from pyroaring import BitMap, BitMap64

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidRows, Unsupported
from storage_engine.kernel import sketches
from storage_engine.kernel.roaring_tree import read_bitmap64, write_bitmap64


def a_table(function: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    options = {"bucket": "1", "merge-engine": "aggregation", "fields.s.aggregate-function": function}
    return catalog.create_table("db.t", {"id": "INT", "s": "BYTES"}, primary_key=["id"], options=options)


def frame(**values: bytes | None) -> pl.DataFrame:
    ids = [int(name.removeprefix("k")) for name in values]
    return pl.DataFrame({"id": ids, "s": list(values.values())}, schema={"id": pl.Int32, "s": pl.Binary})


def hll(*numbers: int, log_k: int = 12) -> bytes:
    sketch = datasketches.hll_sketch(log_k)
    for number in numbers:
        sketch.update(number)
    return bytes(sketch.serialize_compact())


def test_hll_sketches_are_united_at_the_coarsest_size() -> None:
    table = a_table("hll_sketch")
    lone = hll(7)
    table.write(frame(k1=hll(*range(100)), k2=lone, k3=None))
    table.write(frame(k1=hll(*range(50, 200), log_k=10), k3=None))
    found = table.scan().collect().sort("id")
    united = datasketches.hll_sketch.deserialize(found["s"][0])
    assert united.lg_config_k == 10
    assert united.get_estimate() == pytest.approx(200, rel=0.1)
    assert found["s"].to_list()[1:] == [lone, None]


def test_bitmaps_are_united() -> None:
    table = a_table("rbm32")
    table.write(frame(k1=BitMap(range(1000)).serialize()))
    table.write(frame(k1=BitMap([5, 2_000_000_000]).serialize()))
    table.compact(full=True)
    assert set(BitMap.deserialize(table.scan().collect()["s"][0])) == {*range(1000), 2_000_000_000}


def test_bitmaps_of_64_bits_are_united() -> None:
    table = a_table("rbm64")
    lone = write_bitmap64(BitMap64([2**64 - 1]))
    table.write(frame(k1=write_bitmap64(BitMap64(range(1000))), k2=lone, k3=None))
    table.write(frame(k1=write_bitmap64(BitMap64([5, 2**40])), k3=None))
    table.compact(full=True)
    united, *rest = table.scan().collect().sort("id")["s"]
    assert set(read_bitmap64(united)) == {*range(1000), 2**40}
    assert rest == [lone, None]


@pytest.mark.parametrize("function", ["hll_sketch", "theta_sketch", "rbm32", "rbm64"])
def test_what_is_no_sketch_is_told(function: str) -> None:
    table = a_table(function)
    table.write(frame(k1=b"nonsense"))
    table.write(frame(k1=b"nonsense as well"))
    with pytest.raises(InvalidRows, match=f"column 's': a value is nothing that aggregate function '{function}' reads"):
        table.scan().collect()


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketches", None)
    sketches._datasketches.cache_clear()
    with pytest.raises(Unsupported, match=r"pip install 'streaming-lakehouse\[sketches\]'"):
        a_table("theta_sketch")
    monkeypatch.undo()
    sketches._datasketches.cache_clear()
    a_table("theta_sketch")

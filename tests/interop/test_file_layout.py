"""Tables whose data and index files lie elsewhere than usual, and manifests of other formats."""

from __future__ import annotations

import polars as pl
import pytest

from tests.interop.both import Both
from tests.interop.flink.canonical import canon

LAYOUTS: dict[str, dict[str, str]] = {
    "data-file.path-directory": {"data-file.path-directory": "some/data"},
    "index-file-in-data-file-dir": {"index-file-in-data-file-dir": "true"},
    "manifest.format parquet": {"manifest.format": "parquet"},
    "manifest.format orc": {"manifest.format": "orc"},
}


@pytest.mark.feature("Files", "{id}")
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("by", ["ours", "flink"])
def test_layouts(both: Both, layout: dict[str, str], by: str) -> None:
    options = {"bucket": "2", "deletion-vectors.enabled": "true", **layout}
    columns = "dt STRING, id INT, n BIGINT, PRIMARY KEY (dt, id) NOT ENFORCED"
    shared = both.create("db.t", columns, options, by=by, rest="PARTITIONED BY (dt)")
    schema = {"dt": pl.String, "id": pl.Int32, "n": pl.Int64}
    want: dict[tuple[str, int], int] = {}
    for step, writer in enumerate(["ours", "paimon", "ours", "paimon"]):
        rows = [(day, number, step) for day in ("a", "b") for number in range(step, step + 4)]
        want |= {(day, number): value for day, number, value in rows}
        shared.write(pl.DataFrame(rows, schema=schema, orient="row"), by=writer)
        expected = pl.DataFrame([(*key, value) for key, value in want.items()], schema=schema, orient="row")
        assert shared.rows() == canon(expected)
    for compactor in ("paimon", "ours"):
        shared.compact(by=compactor)
        assert shared.rows() == canon(expected)
    assert shared.table.verify().is_empty()

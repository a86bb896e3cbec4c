"""Files that were written piece by piece: several row groups in a file, several files in a run, several runs in a commit."""

from __future__ import annotations

import polars as pl
import pytest

from tests.interop.both import Both
from tests.interop.flink.canonical import canon

SMALL = {"bucket": "1", "write-buffer-size": "256 kb", "target-file-size": "64 kb"}
ROWS = 6000


def rows(step: int) -> pl.LazyFrame:
    number = pl.int_range(ROWS, dtype=pl.Int64)
    text = (number * 7919 + step).hash().cast(pl.String)
    return pl.LazyFrame({"id": pl.int_range(ROWS, eager=True)}).with_columns(text=text)


@pytest.mark.feature("Scale", "frames and buckets larger than the write buffer, {kind}")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("deduplicate", {}),
        ("lookup changelog", {"changelog-producer": "lookup"}),
        ("deletion vectors", {"deletion-vectors.enabled": "true"}),
    ],
)
def test_what_was_written_in_pieces_is_read_and_compacted(both: Both, kind: str, options: dict[str, str]) -> None:
    shared = both.create("db.t", "id BIGINT NOT NULL, text STRING, PRIMARY KEY (id) NOT ENFORCED", {**SMALL, **options})
    table = both.ours.table("db.t")
    for step in range(2):
        table.write(rows(step))
        assert shared.rows() == canon(rows(step).collect()), kind
    shared.compact(by="ours")
    files = table.files().filter(pl.col("level") == 5)
    assert files.height >= 2
    assert shared.rows() == canon(rows(1).collect())
    shared.write(rows(2).head(500).collect(), by="paimon")
    shared.compact(by="paimon")
    expected = pl.concat([rows(2).head(500).collect(), rows(1).collect().slice(500)])
    assert shared.rows() == canon(expected)

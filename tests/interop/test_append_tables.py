"""Tables without a primary key: rows deleted, updated and compacted by either engine."""

from __future__ import annotations

import polars as pl
import pytest

from tests.interop.both import Both, Shared
from tests.interop.compatibility import Seen
from tests.interop.flink.canonical import canon

COLUMNS = "`day` STRING, `id` BIGINT, `text` STRING"
SCHEMA = {"day": pl.String, "id": pl.Int64, "text": pl.String}
VECTORS = {"deletion-vectors.enabled": "true"}
BUCKETS = {"bucket": "2", "bucket-key": "id"}
LAYOUTS = {
    "append table": {"bucket": "-1"},
    "append table with buckets": BUCKETS,
    "append table with deletion vectors": VECTORS,
    "append table with 64-bit deletion vectors": {**VECTORS, "deletion-vectors.bitmap64": "true"},
    "append table with buckets and deletion vectors": {**VECTORS, **BUCKETS},
}

MERGE = """MERGE INTO db.t USING (
        SELECT * FROM (VALUES (1, 'd'), (2, 'u'), (10, 'd'), (23, 'u'), (100, 'u'), (102, 'u')) AS v (id, op)) AS s
    ON t.id = s.id
    WHEN MATCHED AND s.op = 'd' THEN DELETE
    WHEN MATCHED THEN UPDATE SET `text` = 'merged'
    WHEN NOT MATCHED THEN INSERT (`day`, id, `text`) VALUES ('a', s.id, 'text ' || CAST(s.id AS STRING))"""


def rows_of(first: int, count: int) -> pl.DataFrame:
    rows = [("ab"[number % 2], number, f"text {number}") for number in range(first, first + count)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def theirs(options: dict[str, str]) -> str:
    """Who compacts it in Paimon: only a job compacts a table that has no buckets."""
    return "paimon" if "bucket-key" in options else "flink"


@pytest.mark.feature("Tables without a primary key", "{id}: rows deleted, updated and merged, then compacted")
@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_are_deleted_and_updated(both: Both, options: dict[str, str]) -> None:
    shared = both.create("db.t", COLUMNS, options, rest="PARTITIONED BY (`day`)")
    model = rows_of(0, 20)
    shared.write(rows_of(0, 10), by="ours")
    shared.write(rows_of(10, 10), by=theirs(options))
    assert shared.rows() == canon(model)
    shared.table.delete(pl.col("id") % 3 == 0)
    model = model.filter(pl.col("id") % 3 != 0)
    assert shared.rows() == canon(model)
    shared.table.update(pl.col("id") < 8, {"text": pl.concat_str(pl.lit("new "), "text")})
    model = model.with_columns(
        text=pl.when(pl.col("id") < 8).then(pl.concat_str(pl.lit("new "), "text")).otherwise("text")
    )
    assert shared.rows() == canon(model)
    shared.write(rows_of(20, 6), by=theirs(options))
    shared.write(rows_of(26, 6), by="ours")
    model = pl.concat([model, rows_of(20, 12)])
    shared.table.delete(pl.col("id").is_in([4, 22, 29]))
    model = model.filter(~pl.col("id").is_in([4, 22, 29]))
    assert shared.rows() == canon(model)
    both.ours.execute(MERGE)
    new = [("a", number, f"text {number}") for number in (100, 102)]
    model = model.filter(~pl.col("id").is_in([1, 10])).with_columns(
        text=pl.when(pl.col("id").is_in([2, 23])).then(pl.lit("merged")).otherwise("text")
    )
    model = pl.concat([model, pl.DataFrame(new, schema=SCHEMA, orient="row")])
    assert shared.rows() == canon(model)
    shared.new_changes()
    shared.compact(by=theirs(options))
    assert shared.rows() == canon(model)
    shared.table.delete(pl.col("id") == 5)
    shared.compact(by="ours")
    assert shared.rows() == canon(model.filter(pl.col("id") != 5))
    assert shared.table.store.snapshots.latest().index_manifest is None or not _has_vectors(shared)  # type: ignore[union-attr]


def _has_vectors(shared: Shared) -> bool:
    return bool(shared.both.flink.rows("SELECT 1 FROM `db`.`t$table_indexes` WHERE row_count > 0"))


HIDDEN = {name: options for name, options in LAYOUTS.items() if "deletion" in name and "64" not in name}


@pytest.mark.feature("Tables without a primary key", "{id} of Paimon's own")
@pytest.mark.parametrize("options", HIDDEN.values(), ids=HIDDEN)
def test_deletion_vectors_of_paimon(both: Both, options: dict[str, str]) -> None:
    shared = both.create("db.t", COLUMNS, options, by="flink", rest="PARTITIONED BY (`day`)")
    shared.write(rows_of(0, 12), by=theirs(options))
    shared.write(rows_of(12, 8), by="ours")
    model = rows_of(0, 20)
    hidden = 0
    for position in (0, 1):
        hidden += hide(shared, position)
        assert len(shared.rows()) == 20 - hidden
    left = shared.table.scan().collect()
    assert canon(left) == canon(model.join(left, on=["day", "id"], how="semi"))
    shared.table.delete(pl.col("id") == left["id"][0])
    assert shared.rows() == canon(left.tail(-1))
    hide(shared, 2)
    shared.rows()
    shared.compact(by="ours")
    shared.compact(by=theirs(options))
    shared.rows()


def hide(shared: Shared, position: int) -> int:
    """Hides a row of each file that has it by Paimon's own writer; gives the number of rows."""
    files = shared.table.files().filter(pl.col("record_count") > position)
    shared.both.flink.hide_core("db.t", {path.rsplit("/", 1)[1]: [position] for path in files["file_path"]})
    shared.done.add(Seen.PAIMON_WRITES)
    return files.height


@pytest.mark.feature("Tables without a primary key", "rows of a bucket in their order, compacted")
def test_buckets_keep_the_order(both: Both) -> None:
    shared = both.create("db.t", COLUMNS, {"bucket": "1", "bucket-key": "id", "compaction.min.file-num": "3"})

    def read() -> list[object]:
        return [row[1] for row in both.flink.read("db.t").rows]

    for step in range(7):
        shared.write(rows_of(step * 3, 3), by=("ours", "paimon")[step % 2])
        assert shared.table.scan().collect()["id"].to_list() == read() == list(range(step * 3 + 3))
    shared.table.update(pl.col("id") == 4, {"text": pl.lit("x")})
    shared.compact(by="ours")
    assert shared.table.scan().collect()["id"].to_list() == read() == list(range(21))
    shared.write(rows_of(21, 3), by="paimon")
    shared.rows()
    assert read() == list(range(24))

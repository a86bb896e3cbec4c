from __future__ import annotations

import polars as pl

from storage_engine import Catalog


def test_a_table_without_a_key_tells_what_came_and_went(tmp_path) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute("CREATE DATABASE db; CREATE TABLE db.log (line STRING)")
    table = catalog.table("db.log")
    table.write(pl.DataFrame({"line": ["a", "a", "b"]}))
    first = table.latest_snapshot().id
    table.delete(pl.col("line") == "a")
    table.write(pl.DataFrame({"line": ["c"]}))
    changes = table.changes(first, mode="diff").collect()
    assert sorted(changes.rows()) == [("+I", "c"), ("-D", "a"), ("-D", "a")]


def test_a_snapshot_whose_number_another_process_rolled_back_and_gave_again(tmp_path) -> None:
    writer = Catalog(str(tmp_path))
    writer.execute(
        "CREATE DATABASE db; CREATE TABLE db.t (id BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')"
    )
    table, reader = writer.table("db.t"), Catalog(str(tmp_path)).table("db.t")
    for number in (1, 2):
        table.write(pl.DataFrame({"id": [number]}))
    assert reader.changes(1, 2).collect().rows() == [("+I", 2)]
    assert reader.scan(snapshot=2).collect()["id"].to_list() == [1, 2]
    table.rollback_to(1)
    table.write(pl.DataFrame({"id": [3]}))
    assert reader.changes(1, 2).collect().rows() == [("+I", 3)]
    table.rollback_to(1)
    table.write(pl.DataFrame({"id": [4]}))
    assert reader.scan(snapshot=2).collect()["id"].to_list() == [1, 4]

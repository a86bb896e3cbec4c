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

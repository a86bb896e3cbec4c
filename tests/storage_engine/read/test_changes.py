from __future__ import annotations

import polars as pl
import pytest

from storage_engine import Catalog
from storage_engine.errors import InvalidInput, SnapshotExpired


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


def test_changes_that_expired_before_a_tag_brought_their_snapshot_back(tmp_path) -> None:
    """A tag keeps rows, no changelog: a branch that is made of it, or the table rolled back to it, begins with the rows."""
    catalog = Catalog(str(tmp_path))
    catalog.execute(
        "CREATE DATABASE db; CREATE TABLE db.t (id BIGINT, PRIMARY KEY (id) NOT ENFORCED)"
        " WITH ('bucket' = '1', 'changelog-producer' = 'input')"
    )
    table = catalog.table("db.t")
    for number in (1, 2, 3, 4):
        table.write(pl.DataFrame({"id": [number]}))
    table.create_tag("then", 2)
    table.expire_snapshots(retain_max=1, retain_min=1)
    table.create_branch("repair", "then")
    table.rollback_to("then")
    for each in (table, catalog.table("db.t", "repair")):
        with pytest.raises(SnapshotExpired, match=r"the changes of snapshot 2 expired .* the changes after 2"):
            each.changes(1).collect()
        each.write(pl.DataFrame({"id": [9]}))
        assert each.scan(snapshot=2).collect()["id"].to_list() == [1, 2]
        assert each.changes(2).collect().rows() == [("+I", 9)]


@pytest.mark.parametrize("key", ["", ", PRIMARY KEY (a) NOT ENFORCED"])
def test_changes_of_some_columns(tmp_path, key: str) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute(f"CREATE DATABASE db; CREATE TABLE db.t (a BIGINT NOT NULL, b STRING, c STRING{key})")
    table = catalog.table("db.t")
    table.write(pl.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": ["p", "q"]}))
    assert table.changes(columns=["c", "a"]).collect().rows() == [("+I", "p", 1), ("+I", "q", 2)]
    first = table.latest_snapshot().id
    table.write(pl.DataFrame({"a": [3], "b": ["z"], "c": ["r"]}))
    assert table.changes(first, columns=["b"], mode="diff").collect().rows() == [("+I", "z")]
    assert table.changes(table.latest_snapshot().id, columns=["b"]).collect().columns == ["_row_kind", "b"]
    for wrong in (["a", "z"], []):
        with pytest.raises(InvalidInput, match="is none of a, b, c"):
            table.changes(columns=wrong)

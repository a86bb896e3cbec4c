"""ALTER TABLE in all its forms: what the table is afterwards, and that rows of before read right."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidSchema, SqlError


@pytest.fixture
def catalog() -> Catalog:
    catalog = Catalog(f"memory://alter-{uuid.uuid4()}")
    catalog.execute("""CREATE TABLE t (id INT, v INT, r ROW<a INT, b ROW<c STRING>>, l ARRAY<ROW<x INT>>,
        PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1')""")
    catalog.execute("INSERT INTO t (id, v) VALUES (1, 10)")
    table = catalog.table("t")
    rows = {"id": [2], "v": [20], "r": [{"a": 1, "b": {"c": "x"}}], "l": [[{"x": 7}]]}
    table.write(pl.DataFrame(rows, schema=table.schema.polars_schema))
    return catalog


def columns(table: Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema.fields}


def row(catalog: Catalog, number: int = 2) -> dict[str, Any]:
    (found,) = catalog.sql(f"SELECT * FROM t WHERE id = {number}").collect().to_dicts()
    return found


def test_columns_of_rows_are_added_renamed_widened_and_dropped(catalog: Catalog) -> None:
    catalog.execute("""ALTER TABLE t ADD (r.d INT COMMENT 'new' FIRST, r.b.e BIGINT, l.element.y STRING);
        ALTER TABLE t RENAME r.b.c TO name; ALTER TABLE t MODIFY r.a BIGINT;
        ALTER TABLE t ALTER COLUMN l.element.x TYPE BIGINT""")
    assert row(catalog)["r"] == {"d": None, "a": 1, "b": {"name": "x", "e": None}}
    assert row(catalog)["l"] == [{"x": 7, "y": None}]
    assert row(catalog, 1)["r"] is None
    catalog.execute("ALTER TABLE t DROP r.a; ALTER TABLE t DROP COLUMN l.element.x")
    assert row(catalog)["r"] == {"d": None, "b": {"name": "x", "e": None}}
    assert row(catalog)["l"] == [{"y": None}]


def test_one_thing_about_a_column_at_a_time(catalog: Catalog) -> None:
    table = catalog.table("t")
    catalog.execute("""ALTER TABLE t ALTER COLUMN v TYPE BIGINT; ALTER TABLE t ALTER v COMMENT 'how much';
        ALTER TABLE t ALTER COLUMN v SET DEFAULT 5; ALTER TABLE t ALTER COLUMN v AFTER r""")
    assert list(columns(table)) == ["id", "r", "v", "l"]
    field = table.schema.by_name["v"]
    assert (str(field.type), field.description, field.default_value) == ("BIGINT", "how much", "5")
    catalog.execute(
        "INSERT INTO t (id) VALUES (3); ALTER TABLE t ALTER COLUMN v DROP DEFAULT; INSERT INTO t (id) VALUES (4)"
    )
    assert [row(catalog, number)["v"] for number in (1, 3, 4)] == [10, 5, None]
    with pytest.raises(InvalidSchema, match=r"alter-column-null-to-not-null\.disabled"):
        catalog.execute("ALTER TABLE t ALTER COLUMN v SET NOT NULL")
    catalog.execute("""ALTER TABLE t SET ('alter-column-null-to-not-null.disabled' = 'false');
        ALTER TABLE t ALTER COLUMN v SET NOT NULL; ALTER TABLE t ALTER COLUMN v DROP NOT NULL""")
    assert columns(table)["v"] == "BIGINT"


def test_options_and_comment(catalog: Catalog) -> None:
    table = catalog.table("t")
    catalog.execute("""ALTER TABLE t SET TBLPROPERTIES ('snapshot.num-retained.max' = '20', 'comment' = 'a table');
        ALTER TABLE t UNSET TBLPROPERTIES ('snapshot.num-retained.max')""")
    assert (dict(table.schema.options), table.schema.comment) == ({"bucket": "1"}, "a table")
    catalog.execute("ALTER TABLE t RESET ('comment')")
    assert table.schema.comment is None


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("ALTER COLUMN v", SqlError, "expected TYPE, COMMENT, SET NOT NULL"),
        ("ALTER COLUMN r.a FIRST", SqlError, "expected TYPE, COMMENT"),
        ("ALTER COLUMN v TYPE SMALLINT", InvalidSchema, "could be lost"),
        ("ALTER COLUMN id TYPE BIGINT", InvalidSchema, "part of the primary key"),
        ("ALTER COLUMN v SET DEFAULT 'many'", InvalidSchema, "default value"),
        ("DROP r.nope", InvalidSchema, "nope"),
        ("ADD r.z INT NOT NULL", InvalidSchema, "must be nullable"),
    ],
)
def test_what_would_harm_rows_is_refused(catalog: Catalog, text: str, error: type[Exception], message: str) -> None:
    before = columns(catalog.table("t"))
    with pytest.raises(error, match=message):
        catalog.execute(f"ALTER TABLE t {text}")
    assert columns(catalog.table("t")) == before

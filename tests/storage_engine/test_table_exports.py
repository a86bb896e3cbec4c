"""A table in Arrow, pandas and DuckDB by one line."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, Unsupported
from storage_engine.read import merge_read, source
from storage_engine.read.plan import Split


@pytest.fixture
def table() -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.execute("""CREATE DATABASE db;
        CREATE TABLE db.t (dt STRING, id BIGINT, v DECIMAL(20, 4), PRIMARY KEY (dt, id) NOT ENFORCED)
            PARTITIONED BY (dt) WITH ('bucket' = '1');
        INSERT INTO db.t VALUES ('a', 1, 1.5), ('b', 2, 2.5);
        INSERT INTO db.t VALUES ('b', 2, 7)""")
    return catalog.table("db.t")


def test_arrow_and_pandas_hold_the_rows_of_a_scan(table: Table) -> None:
    arrow = table.to_arrow()
    assert isinstance(arrow, pa.Table)
    assert pl.DataFrame(arrow).sort("id").rows() == [("a", 1, Decimal("1.5000")), ("b", 2, Decimal("7.0000"))]
    pandas = table.to_pandas(snapshot=1).sort_values("id")
    assert pandas["v"].tolist() == [Decimal("1.5000"), Decimal("2.5000")]
    with pytest.raises(InvalidInput, match="give one of"):
        table.to_arrow(snapshot=1, tag="x")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[tuple[str, ...], int]]:
    """The columns and the number of files that each scan asks for."""
    seen: list[tuple[tuple[str, ...], int]] = []

    class Watched(merge_read.SplitReader):
        def __init__(self, *arguments: Any, columns: Sequence[str], **named: Any) -> None:
            self.wanted = tuple(columns)
            super().__init__(*arguments, columns=columns, **named)

        def portions(self, splits: Sequence[Split]) -> Any:
            seen.append((self.wanted, sum(len(split.files) for split in splits)))
            return super().portions(splits)

    monkeypatch.setattr(source, "SplitReader", Watched)
    return seen


def test_duckdb_reads_the_columns_and_partitions_that_it_needs(
    table: Table, asked: list[tuple[tuple[str, ...], int]]
) -> None:
    with table.to_duckdb() as connection:
        assert connection.sql("SELECT v FROM t WHERE dt = 'b'").fetchall() == [(Decimal("7.0000"),)]
        assert connection.sql("SELECT sum(id) FROM t").fetchall() == [(3,)]
    assert [files for _, files in asked] == [2, 3]
    assert set(asked[0][0]) == {"dt", "v"}
    assert asked[1][0] == ("id",)


def test_duckdb_takes_a_connection_and_a_name(table: Table) -> None:
    with duckdb.connect() as mine:
        mine.execute("CREATE TABLE other AS SELECT 2 AS id, 'x' AS name")
        assert table.to_duckdb("old", mine, snapshot=1) is mine
        joined = mine.sql("SELECT name, v FROM old JOIN other USING (id)")
        assert joined.fetchall() == [("x", Decimal("2.5000"))]


@pytest.mark.parametrize("module", ["pandas", "duckdb"])
def test_what_is_not_installed_is_said(table: Table, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Unsupported, match=f"{module} is not installed: pip install"):
        getattr(table, f"to_{module}")()

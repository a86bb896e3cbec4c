"""Rows that are too old leave with a compaction, and only then."""

from __future__ import annotations

import datetime as dt
import time
import uuid

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidOption
from storage_engine.spec.schema_change import SetOption

NOW = int(time.time())
OLD, NEW = NOW - 2 * 86_400, NOW - 3600
MOMENTS = {
    "INT": lambda seconds: seconds,
    "BIGINT": lambda seconds: seconds * 1000,
    "TIMESTAMP(3)": lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None),
    "TIMESTAMP_LTZ(6)": lambda seconds: dt.datetime.fromtimestamp(seconds, dt.UTC),
}


def a_table(sql: str, url: str | None = None, **options: str) -> Table:
    catalog = Catalog(url or f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    named = {"bucket": "1", "record-level.expire-time": "1 d", "record-level.time-field": "at", **options}
    return catalog.create_table("db.t", {"id": "INT", "at": sql, "n": "INT"}, primary_key=["id"], options=named)


def rows(table: Table, sql: str, **times: int | None) -> pl.DataFrame:
    """Rows id → its time in seconds; n counts as the ids do."""
    ids = [int(name.removeprefix("r")) for name in times]
    at = [None if seconds is None else MOMENTS[sql](seconds) for seconds in times.values()]
    return pl.DataFrame({"id": ids, "at": at, "n": ids}, schema=dict(table.schema.polars_schema))


def ids(table: Table) -> list[int]:
    return table.scan().collect()["id"].sort().to_list()


@pytest.mark.parametrize("sql", MOMENTS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"changelog-producer": "lookup", "write-only": "true"},
        {"deletion-vectors.enabled": "true", "write-only": "true"},
        {"merge-engine": "partial-update", "changelog-producer": "full-compaction"},
    ],
    ids=["plain", "lookup", "vectors", "full-compaction"],
)
def test_old_rows_go_when_they_are_rewritten(sql: str, options: dict[str, str]) -> None:
    table = a_table(sql, **options)
    table.write(rows(table, sql, r1=OLD, r2=NEW, r3=None))
    table.write(rows(table, sql, r2=OLD, r4=OLD, r5=NEW))
    if not options:
        assert ids(table) == [1, 2, 3, 4, 5]
    table.compact(full=True)
    # of key 2 the old record is dropped before the merge, as Paimon does it
    assert ids(table) == [2, 3, 5]
    table.compact(full=True)
    assert ids(table) == [2, 3, 5]


def test_a_single_file_at_the_top_is_rewritten_once_its_least_time_is_old() -> None:
    url = f"memory://{uuid.uuid4()}"
    table = a_table("BIGINT", url, **{"record-level.expire-time": "10000 d"})
    table.write(rows(table, "BIGINT", r1=OLD, r2=NEW))
    table.compact(full=True)
    (before,) = table.files()["file_path"]
    assert table.compact(full=True) is None
    table.alter(SetOption(key="record-level.expire-time", value="1 d"))
    table = Catalog(url).table("db.t")
    assert ids(table) == [1, 2]
    table.compact(full=True)
    assert ids(table) == [2]
    assert before not in table.files()["file_path"].to_list()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"record-level.time-field": "n", "record-level.expire-time": "soon"}, "expected a number with a unit"),
        ({"record-level.time-field": "text"}, "expected a column of type INT, BIGINT or TIMESTAMP"),
        ({"record-level.time-field": "x"}, "'x', which is not a column|names 'x'"),
    ],
)
def test_what_cannot_tell_an_age_is_refused(options: dict[str, str], reason: str) -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    with pytest.raises(InvalidOption, match=reason):
        catalog.create_table(
            "db.t",
            {"id": "INT", "n": "INT", "text": "STRING"},
            primary_key=["id"],
            options={"bucket": "1", "record-level.expire-time": "1 d", **options},
        )
    with pytest.raises(InvalidOption, match=r"needs 'record-level\.time-field'"):
        catalog.create_table("db.t", {"id": "INT"}, primary_key=["id"], options={"record-level.expire-time": "1 d"})

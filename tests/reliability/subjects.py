"""The tables that are put to the test: their definitions, what is written to them, and the same in a plain dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from storage_engine import Catalog, Table
from storage_engine.store.file_io import FileIO
from storage_engine.store.table_store import TableStore

USER = "stream"
COLUMNS = {"day": "STRING", "id": "BIGINT", "v": "BIGINT"}
FRAME_SCHEMA = {"day": pl.String, "id": pl.Int64, "v": pl.Int64, "_row_kind": pl.String}

Key = tuple[str, int]
State = dict[Key, int]
Row = tuple[str, int, int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A kind of table."""

    options: Mapping[str, str]
    adds_up: bool = False
    has_changelog: bool = False
    hides_level0: bool = False

    def after(self, state: State, rows: Iterable[Row]) -> State:
        """The state that rows lead to, worked out row by row."""
        result = dict(state)
        for day, id_, v, kind in rows:
            if kind in ("+I", "+U"):
                result[day, id_] = result.get((day, id_), 0) + v if self.adds_up else v
            elif self.adds_up:
                result[day, id_] -= v
            else:
                result.pop((day, id_), None)
        return result


_SUM = {"merge-engine": "aggregation", "fields.v.aggregate-function": "sum"}
SUBJECTS = {
    "lookup changelog": Subject(options={"changelog-producer": "lookup"}, has_changelog=True),
    "deletion vectors": Subject(options={"deletion-vectors.enabled": "true"}, hides_level0=True),
    "dynamic buckets": Subject(options={"bucket": "-1", "dynamic-bucket.target-row-num": "2"}),
    "aggregation": Subject(options=_SUM, adds_up=True),
    "aggregation with lookup changelog": Subject(
        options={**_SUM, "changelog-producer": "lookup"}, adds_up=True, has_changelog=True
    ),
}

HISTORY: list[list[Row]] = [
    [("a", 1, 10, "+I"), ("a", 2, 20, "+I"), ("b", 1, 30, "+I"), ("a", 3, 5, "+I")],
    [("a", 1, 11, "+U"), ("b", 1, 7, "-D"), ("b", 2, 40, "+I")],
]
BATCH: list[Row] = [("a", 1, 12, "+U"), ("a", 2, 20, "-D"), ("b", 1, 31, "+I"), ("c", 9, 90, "+I"), ("a", 4, 2, "+I")]
REPLACED: list[Row] = [("a", 1, 100, "+I"), ("a", 2, 50, "+I"), ("a", 7, 700, "+I")]


def frame(rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=FRAME_SCHEMA, orient="row")


def create(root: Path | str, subject: Subject) -> None:
    """An empty table ``db.t`` in a warehouse."""
    catalog = Catalog(str(root))
    catalog.create_database("db", ignore_if_exists=True)
    catalog.create_table(
        "db.t",
        COLUMNS,
        primary_key=["day", "id"],
        partitioned_by=["day"],
        options={"bucket": "1", "num-sorted-run.compaction-trigger": "3", **subject.options},
    )


def open_table(root: Path | str, io_type: Callable[..., tuple[FileIO, str]] = FileIO.from_url) -> Table:
    """``db.t`` with nothing remembered."""
    io, path = io_type(str(root))
    store = TableStore.open(io, f"{path}/db.db/t")
    schema = store.schemas.latest()
    assert schema is not None
    return Table("db.t", store, schema)


def rows_of(table: Table, snapshot: int | None = None) -> State:
    """All rows; no key stands there twice."""
    found = table.scan(snapshot=snapshot).collect()
    state = {(day, id_): v for day, id_, v in found.iter_rows()}
    assert len(state) == found.height, "a key is there twice"
    return state


def replayed(table: Table) -> State:
    """The whole changelog applied to nothing: each row must retract what stands there."""
    state: State = {}
    for kind, day, id_, v in table.changes(0).collect().iter_rows():
        if kind in ("+I", "+U"):
            assert (day, id_) not in state, f"{kind} of {day, id_}, which is there"
            state[day, id_] = v
        else:
            assert state.pop((day, id_), None) == v, f"{kind} of {day, id_, v}, which is not there"
    return state

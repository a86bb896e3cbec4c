"""A table without a primary key under random work against a plain list: inserts, deletes, updates and compaction."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage_engine import Table
from tests.effort import examples
from tests.model.warehouse import empty_warehouse

COLUMNS = {"day": "STRING", "id": "BIGINT", "name": "STRING", "n": "INT"}
FRAME_SCHEMA = {"day": pl.String, "id": pl.Int64, "name": pl.String, "n": pl.Int32}
DAYS = ["2024-01-01", "2024-01-02"]
Row = tuple[Any, ...]

rows = st.lists(
    st.tuples(
        st.sampled_from(DAYS), st.integers(0, 6), st.none() | st.text("ab", max_size=2), st.none() | st.integers(0, 9)
    ),
    max_size=8,
)


class AppendMachine(RuleBasedStateMachine):
    """Without buckets; files are small, so that everything is due for compaction."""

    options: dict[str, str] = {}

    @initialize()
    def create(self) -> None:
        catalog = empty_warehouse()
        options = {"compaction.min.file-num": "3", **self.options}
        catalog.create_table("db.t", COLUMNS, partitioned_by=["day"], options=options)
        self.table: Table = catalog.table("db.t")
        self.model: list[Row] = []
        self.history: dict[int, Counter[Row]] = {}

    @rule(batch=rows)
    def write(self, batch: list[Row]) -> None:
        self.table.write(pl.DataFrame(batch, schema=FRAME_SCHEMA, orient="row"))
        self.model += batch
        self._remember()

    @rule(limit=st.integers(0, 9))
    def delete_below(self, limit: int) -> None:
        snapshot = self.table.delete(pl.col("n") < limit)
        gone = [row for row in self.model if row[3] is not None and row[3] < limit]
        assert (snapshot is None) == (not gone)
        self.model = [row for row in self.model if row not in gone]
        self._remember()

    @rule(day=st.sampled_from(DAYS))
    def delete_a_day(self, day: str) -> None:
        self.table.delete(pl.col("day") == day)
        self.model = [row for row in self.model if row[0] != day]
        self._remember()

    @rule(id_=st.integers(0, 6))
    def update(self, id_: int) -> None:
        assignments = {"n": pl.lit(id_), "name": pl.concat_str(pl.col("name"), pl.lit("!"))}
        self.table.update(pl.col("id") == id_, assignments)
        self.model = [
            (day, key, None if name is None else f"{name}!", id_) if key == id_ else (day, key, name, n)
            for day, key, name, n in self.model
        ]
        self._remember()

    @rule(id_=st.integers(0, 6))
    def move_to_another_day(self, id_: int) -> None:
        self.table.update((pl.col("id") == id_) & (pl.col("day") == DAYS[0]), {"day": pl.lit(DAYS[1])})
        self.model = [(DAYS[1], *row[1:]) if row[:2] == (DAYS[0], id_) else row for row in self.model]
        self._remember()

    @rule(full=st.booleans())
    def compact(self, full: bool) -> None:
        self.table.compact(full=full)
        if full:
            files = self.table.files()
            assert files.height == files.select("partition", "bucket").n_unique()
            assert sum(files["record_count"]) == len(self.model)
            assert self.table.compact(full=True) is None
        self._remember()

    @rule()
    def overwrite(self) -> None:
        frame = pl.DataFrame([(DAYS[0], 1, "o", 1)], schema=FRAME_SCHEMA, orient="row")
        self.table.overwrite(frame)
        self.model = [row for row in self.model if row[0] != DAYS[0]] + frame.rows()
        self._remember()

    @invariant()
    def reads_equal_the_model(self) -> None:
        if hasattr(self, "table"):
            assert Counter(self.table.scan().collect().iter_rows()) == Counter(self.model)

    @invariant()
    def statistics_and_vectors_prune_no_row(self) -> None:
        if hasattr(self, "table"):
            found = self.table.scan().filter(pl.col("n") > 4).select("id", "n").collect()
            expected = [(row[1], row[3]) for row in self.model if row[3] is not None and row[3] > 4]
            assert Counter(found.iter_rows()) == Counter(expected)

    @invariant()
    def earlier_snapshots_read_the_same(self) -> None:
        if hasattr(self, "table"):
            for snapshot, expected in list(self.history.items())[-2:]:
                assert Counter(self.table.scan(snapshot=snapshot).collect().iter_rows()) == expected

    def _remember(self) -> None:
        latest = self.table.latest_snapshot()
        if latest is not None:
            self.history[latest.id] = Counter(self.model)


SETTINGS = settings(
    max_examples=examples(8), stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


class HiddenRowsMachine(AppendMachine):
    """Rows are deleted by deletion vectors, of which every one is an index file of its own."""

    options = {"deletion-vectors.enabled": "true", "deletion-vector.index-file.target-size": "1 b"}


class HiddenRowsInBucketsMachine(AppendMachine):
    """The same in buckets, where there is one index file for each."""

    options = {"deletion-vectors.enabled": "true", "bucket": "2", "bucket-key": "id"}


class OrderedMachine(AppendMachine):
    """Buckets keep the order of rows, which stay where they are when they are updated."""

    options = {"bucket": "2", "bucket-key": "id"}

    @invariant()
    def rows_of_a_key_are_in_order(self) -> None:
        if not hasattr(self, "table"):
            return
        found = self.table.scan().collect()
        for id_ in range(7):
            here = [row for row in found.iter_rows() if row[:2] == (DAYS[0], id_)]
            assert here == [row for row in self.model if row[:2] == (DAYS[0], id_)]


TestAppend = AppendMachine.TestCase
TestAppend.settings = SETTINGS
TestHiddenRows = HiddenRowsMachine.TestCase
TestHiddenRows.settings = SETTINGS
TestHiddenRowsInBuckets = HiddenRowsInBucketsMachine.TestCase
TestHiddenRowsInBuckets.settings = SETTINGS
TestOrdered = OrderedMachine.TestCase
TestOrdered.settings = SETTINGS

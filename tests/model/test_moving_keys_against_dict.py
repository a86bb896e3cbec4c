"""A table whose primary key lacks the partition column, against a plain dict: rows move between partitions."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage_engine import Table
from tests.effort import examples
from tests.model.warehouse import empty_warehouse

COLUMNS = {"day": "STRING", "id": "BIGINT", "n": "INT"}
SCHEMA = {"day": pl.String, "id": pl.Int64, "n": pl.Int32, "_row_kind": pl.String}
Row = tuple[Any, ...]

rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]),
        st.integers(0, 15),
        st.none() | st.integers(0, 9),
        st.sampled_from(["+I", "+I", "+U", "-D"]),
    ),
    max_size=10,
)


class MovingMachine(RuleBasedStateMachine):
    """``deduplicate``: a key has one row, in the partition that it was last written to."""

    options: dict[str, str] = {}
    kinds = ("+I", "+U", "-D")

    @initialize()
    def create(self) -> None:
        self.catalog = empty_warehouse()
        options = {"bucket": "-1", "dynamic-bucket.target-row-num": "3", **self.options}
        self.catalog.create_table("db.t", COLUMNS, primary_key=["id"], partitioned_by=["day"], options=options)
        self.table: Table = self.catalog.table("db.t")
        self.model: dict[int, Row] = {}

    @rule(batch=rows, anew=st.booleans())
    def write(self, batch: list[Row], anew: bool) -> None:
        if anew:
            self.table = self.catalog.table("db.t")  # which knows no places yet
        kept = [row for row in batch if row[3] in self.kinds]
        self.table.write(pl.DataFrame(kept, schema=SCHEMA, orient="row"))
        for row in kept:
            self.merge(row)

    def merge(self, row: Row) -> None:
        if row[3] == "-D":
            self.model.pop(row[1], None)
        else:
            self.model[row[1]] = row[:3]

    @rule()
    def another_writer(self) -> None:
        other = self.catalog.table("db.t")
        other.write(pl.DataFrame([("b", 1, 7, "+I")], schema=SCHEMA, orient="row"))
        self.merge(("b", 1, 7, "+I"))

    @rule(full=st.booleans())
    def compact(self, full: bool) -> None:
        self.table.compact(full=full)

    @rule()
    def overwrite_everything(self) -> None:
        frame = pl.DataFrame([("a", 1, 1), ("b", 2, 2)], schema=list(COLUMNS), orient="row")
        partitions = [{"day": day} for day in ("a", "b", None)]
        self.table.overwrite(frame.cast({"n": pl.Int32}), partitions=partitions)
        self.model = {row[1]: row for row in frame.iter_rows()}

    @invariant()
    def reads_equal_the_model(self) -> None:
        if hasattr(self, "table"):
            found = self.table.scan().collect()
            assert sorted(found.iter_rows(), key=str) == sorted(self.model.values(), key=str)


class LookupMachine(MovingMachine):
    """The same with a lookup changelog, which replays to the rows."""

    options = {"changelog-producer": "lookup"}

    @invariant()
    def changelog_replays(self) -> None:
        if not hasattr(self, "table") or self.table.latest_snapshot() is None:
            return
        if "OVERWRITE" in self.table.snapshots()["commit_kind"].to_list():
            return
        state: dict[tuple[Any, Any], Row] = {}
        for kind, *row in self.table.changes(0).collect().iter_rows():
            key = (row[0], row[1])
            if kind in ("+I", "+U"):
                state[key] = tuple(row)
            else:
                assert state.pop(key) == tuple(row)
        assert sorted(state.values(), key=str) == sorted(self.model.values(), key=str)


class HiddenRowsMachine(MovingMachine):
    """The same with deletion vectors."""

    options = {"deletion-vectors.enabled": "true"}


class PartialUpdateMachine(MovingMachine):
    """``partial-update``: a key stays in the partition of its first row."""

    options = {"merge-engine": "partial-update"}
    kinds = ("+I", "+U")

    def merge(self, row: Row) -> None:
        day, id_, n = row[:3]
        old = self.model.get(id_)
        self.model[id_] = (day, id_, n) if old is None else (old[0], id_, old[2] if n is None else n)


class SumMachine(PartialUpdateMachine):
    """``aggregation``: the same place, and a sum."""

    options = {"merge-engine": "aggregation", "fields.n.aggregate-function": "sum"}

    def merge(self, row: Row) -> None:
        day, id_, n = row[:3]
        old = self.model.get(id_)
        if old is None:
            self.model[id_] = (day, id_, n)
        else:
            self.model[id_] = (old[0], id_, n if old[2] is None else old[2] + (n or 0))


class FirstRowMachine(PartialUpdateMachine):
    """``first-row``: later rows change nothing, wherever they would go."""

    options = {"merge-engine": "first-row"}

    def merge(self, row: Row) -> None:
        self.model.setdefault(row[1], row[:3])


SETTINGS = settings(
    max_examples=examples(4), stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoving = MovingMachine.TestCase
TestMoving.settings = SETTINGS
TestLookup = LookupMachine.TestCase
TestLookup.settings = SETTINGS
TestHiddenRows = HiddenRowsMachine.TestCase
TestHiddenRows.settings = SETTINGS
TestPartialUpdate = PartialUpdateMachine.TestCase
TestPartialUpdate.settings = SETTINGS
TestSum = SumMachine.TestCase
TestSum.settings = SETTINGS
TestFirstRow = FirstRowMachine.TestCase
TestFirstRow.settings = SETTINGS


def test_key_deleted_in_one_partition_and_written_by_another_writer_to_another() -> None:
    """A deleted key's place is remembered; the place where another writer put it since is the one that counts."""
    state = MovingMachine()
    state.create()
    state.write(batch=[(None, 1, 7, "-D"), (None, 2, None, "+I")], anew=True)
    state.another_writer()
    state.write(batch=[("b", 15, None, "+I")], anew=False)
    state.write(batch=[("b", 5, 9, "+I"), ("b", 12, 7, "+I"), ("b", 1, 6, "+I")], anew=False)
    state.reads_equal_the_model()


def test_snapshot_whose_number_was_rolled_back_and_given_again() -> None:
    """Places that were read at a snapshot are those of that snapshot alone, not of another one of its number."""
    state = MovingMachine()
    state.create()
    state.write(batch=[("a", 1, 1, "+I")], anew=True)
    state.write(batch=[("a", 2, 2, "+I")], anew=False)
    other = state.catalog.table("db.t")
    other.rollback_to(1)
    other.write(pl.DataFrame([("b", 1, 9, "+I")], schema=SCHEMA, orient="row"))
    state.table.write(pl.DataFrame([("a", 1, 5, "+I")], schema=SCHEMA, orient="row"))
    assert state.table.scan().collect().rows() == [("a", 1, 5)]


def test_many_rows_of_few_keys_stay_in_the_partition_of_the_first() -> None:
    """Rows that are merged ahead of sorting, since many add to the same keys, do not lose sight of the first one's place."""
    state = SumMachine()
    state.create()
    state.write(batch=[(None if row < 10 else "b", row % 10, 1, "+I") for row in range(30_000)], anew=True)
    state.reads_equal_the_model()

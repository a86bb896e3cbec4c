"""A table under random work against a plain dict: every state readable, every changelog replays to the batch read."""

from __future__ import annotations

import uuid
from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from storage_engine import Catalog, Table
from tests.effort import examples

COLUMNS = {"day": "STRING", "id": "BIGINT", "name": "STRING", "amount": "DECIMAL(20, 4)", "seq": "INT"}
FRAME_SCHEMA = {
    "day": pl.String,
    "id": pl.Int64,
    "name": pl.String,
    "amount": pl.Decimal(20, 4),
    "seq": pl.Int32,
    "_row_kind": pl.String,
}
Key = tuple[str, int]
Row = tuple[Any, ...]

rows = st.lists(
    st.tuples(
        st.sampled_from(["2024-01-01", "2024-01-02"]),
        st.integers(0, 12),
        st.none() | st.text("ab\u00e9", max_size=3),
        st.none() | st.decimals(-999, 999, places=4),
        st.integers(0, 5),
        st.sampled_from(["+I", "+I", "+U", "-D", "-U"]),
    ),
    max_size=12,
)


class DeduplicateMachine(RuleBasedStateMachine):
    """``deduplicate`` with ``sequence.field``: the row with the highest (seq, arrival) wins, and a retraction removes."""

    options: dict[str, str] = {}

    @initialize()
    def create(self) -> None:
        catalog = Catalog(f"memory://{uuid.uuid4()}")
        catalog.create_database("db")
        catalog.create_table(
            "db.t",
            COLUMNS,
            primary_key=["day", "id"],
            partitioned_by=["day"],
            options={"bucket": "2", "sequence.field": "seq", **self.options},
        )
        self.table: Table = catalog.table("db.t")
        self.model: dict[Key, Row] = {}
        self.history: dict[int, set[Row]] = {}
        self.identifier = 0

    @rule(batch=rows)
    def write(self, batch: list[Row]) -> None:
        frame = pl.DataFrame(batch, schema=FRAME_SCHEMA, orient="row")
        for row in batch:
            key = (row[0], row[1])
            current = self.model.get(key)
            if current is None or row[4] >= current[4]:
                self.model[key] = row
        self.table.write(frame)
        self._drop_tombstones()
        self._remember()

    @rule(batch=rows)
    def write_twice_with_one_identifier(self, batch: list[Row]) -> None:
        self.identifier += 1
        frame = pl.DataFrame(batch, schema=FRAME_SCHEMA, orient="row")
        kept = frame.filter(pl.col("_row_kind").is_in(["+I", "+U"]))
        first = self.table.write(kept, commit_user="job", commit_identifier=self.identifier)
        again = self.table.write(kept, commit_user="job", commit_identifier=self.identifier)
        assert first is not None
        assert again is None
        for row in kept.iter_rows():
            current = self.model.get((row[0], row[1]))
            if current is None or row[4] >= current[4]:
                self.model[row[0], row[1]] = row
        self._drop_tombstones()
        self._remember()

    @rule(full=st.booleans())
    def compact(self, full: bool) -> None:
        self.table.compact(full=full)
        self._drop_tombstones()
        self._remember()

    @rule(day=st.sampled_from(["2024-01-01", "2024-01-02"]))
    def overwrite(self, day: str) -> None:
        frame = pl.DataFrame([(day, 1, "o", None, 3)], schema=list(COLUMNS), orient="row")
        frame = frame.cast({name: FRAME_SCHEMA[name] for name in COLUMNS})
        self.table.overwrite(frame, partitions=[{"day": day}])
        self.model = {key: row for key, row in self.model.items() if key[0] != day}
        self.model[day, 1] = (*frame.row(0), "+I")
        self._remember()

    @invariant()
    def reads_equal_the_model(self) -> None:
        if not hasattr(self, "table"):
            return
        assert self._scan() == self._visible()

    @invariant()
    def every_retained_snapshot_still_reads_the_same(self) -> None:
        if not hasattr(self, "table"):
            return
        for snapshot, expected in list(self.history.items())[-3:]:
            assert set(self.table.scan(snapshot=snapshot).collect().iter_rows()) == expected

    def _scan(self) -> set[Row]:
        frame = self.table.scan().collect()
        found = set(frame.iter_rows())
        assert len(found) == frame.height
        return found

    def _visible(self) -> set[Row]:
        return {row[:5] for row in self.model.values() if row[5] in ("+I", "+U")}

    def _remember(self) -> None:
        latest = self.table.latest_snapshot()
        if latest is not None:
            self.history[latest.id] = self._visible()

    def _drop_tombstones(self) -> None:
        """Forget removed keys whose tombstone the table has dropped: an older insert may then bring them back."""
        kept = self._tombstones()
        self.model = {key: row for key, row in self.model.items() if row[5] in ("+I", "+U") or key in kept}

    def _tombstones(self) -> set[Key]:
        """Keys whose retraction still stands in a file; read from the files themselves."""
        found: set[Key] = set()
        for path in self.table.files()["file_path"]:
            rows = pl.read_parquet(self.table.store.io.read_bytes(path))
            gone = rows.filter(pl.col("_VALUE_KIND").is_in([1, 3]))
            found |= set(gone.select("day", "id").iter_rows())
        return found


SETTINGS = settings(
    max_examples=examples(25), stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)


class LookupMachine(DeduplicateMachine):
    """The same with a lookup changelog, which must replay to every state that a write made."""

    options = {"changelog-producer": "lookup"}

    @invariant()
    def changelog_replays_to_the_batch_read(self) -> None:
        if not hasattr(self, "table") or self.table.latest_snapshot() is None:
            return
        overwritten = "OVERWRITE" in self.table.snapshots()["commit_kind"].to_list()
        if overwritten:
            return
        state: dict[Key, Row] = {}
        for row in self.table.changes(0).collect().iter_rows():
            kind, values = row[0], row[1:]
            key = (values[0], values[1])
            if kind in {"+I", "+U"}:
                assert key not in state
                state[key] = values
            else:
                assert state.pop(key) == values
        assert set(state.values()) == self._scan()


class DeletionVectorMachine(DeduplicateMachine):
    """The same with deletion vectors: reads need no merge."""

    options = {"deletion-vectors.enabled": "true"}


TestDeduplicate = DeduplicateMachine.TestCase
TestDeduplicate.settings = SETTINGS
TestLookup = LookupMachine.TestCase
TestLookup.settings = SETTINGS
TestDeletionVectors = DeletionVectorMachine.TestCase
TestDeletionVectors.settings = SETTINGS

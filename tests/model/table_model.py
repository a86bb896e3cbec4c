"""What a table is told to hold, in plain Python: the records of each key in their order, merged one after the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from storage_engine.spec.schema import TableSchema
from tests.storage_engine.kernel import merge_models
from tests.storage_engine.kernel.merge_models import DELETE, KIND, SEQUENCE, Record, is_retract

COLUMNS = {
    "day": "STRING",
    "id": "BIGINT",
    "name": "STRING",
    "amount": "DECIMAL(20, 4)",
    "n": "INT",
    "seq": "INT",
    "more": "INT",
}
"""All columns that a table may get; the last is added by a change of the schema."""
KINDS = ("+I", "-U", "+U", "-D")
Key = tuple[str, int]
Row = tuple[Any, ...]
Rows = frozenset[Row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A kind of table: its options, and the retractions that it may be given.

    ``retracts``: "any"; "live", those of a row that is there, as in any true changelog; "none". ``last_in_batch``: nothing
    follows a -D of a key in one batch, which Paimon would merge without the row below it, and no -U follows a lone -U: merged
    without that row, they are a -D.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    retracts: str = "any"
    last_in_batch: bool = False
    drops_tombstones: bool = False

    @property
    def schema(self) -> TableSchema:
        options = {name: text for name, text in self.options.items() if name != "bucket"}
        return merge_models.schema_of(
            COLUMNS, {"bucket": "1", **options}, primary_keys=("day", "id"), partition_keys=("day",)
        )


@dataclass(frozen=True, slots=True)
class State:
    """The records of each key since it was last emptied. Never changed: each step gives another state."""

    schema: TableSchema
    records: Mapping[Key, tuple[Record, ...]] = field(default_factory=dict)

    def after(self, batch: list[Record]) -> State:
        """The state with a batch on top."""
        records = dict(self.records)
        for record in batch:
            key = (record["day"], record["id"])
            before = records.get(key, ())
            number = before[-1][SEQUENCE] + 1 if before else 0
            records[key] = (*before, {**record, SEQUENCE: number})
        return State(self.schema, records)

    def without(self, day: str) -> State:
        return State(self.schema, {key: records for key, records in self.records.items() if key[0] != day})

    def forgetting(self, keys: Collection[Key]) -> State:
        return State(self.schema, {key: records for key, records in self.records.items() if key not in keys})

    def row(self, key: Key) -> Row | None:
        """The row of a key, None if there is none."""
        records = self.records.get(key, ())
        merged = merge_models.merge_model(records, self.schema)
        if not merged or is_retract(merged[0]):
            return None
        return tuple(merged[0][name] for name in COLUMNS)

    def rows(self) -> Rows:
        return frozenset(row for key in self.records if (row := self.row(key)) is not None)

    def gone(self) -> set[Key]:
        """Keys that have records and no row."""
        return {key for key in self.records if self.row(key) is None}


def allowed(batch: list[Row], state: State, variant: Variant) -> list[Record]:
    """The rows of a batch that a variant may be given, as records."""
    kept: list[Record] = []
    gone: set[Key] = set()
    retracted: set[Key] = set()
    for *values, kind in batch:
        record = {**dict(zip(COLUMNS, values, strict=True)), KIND: KINDS.index(kind)}
        key = (record["day"], record["id"])
        if variant.last_in_batch and (key in gone or (kind == "-U" and key in retracted)):
            continue
        if is_retract(record):
            row = state.after(kept).row(key)
            if variant.retracts == "none" or (variant.retracts == "live" and row is None):
                continue
            gone |= {key} if record[KIND] == DELETE else set()
            retracted.add(key)
        else:
            retracted.discard(key)
        kept.append(record)
    return kept


def frame_of(records: list[Record], names: Mapping[str, str], dtypes: pl.Schema) -> pl.DataFrame:
    """Records as they are written: ``names`` says how each column is called now."""
    wanted = {now: was for was, now in names.items()}
    columns = {
        name: pl.Series(name, [record[wanted[name]] for record in records], dtype=dtype)
        for name, dtype in dtypes.items()
    }
    return pl.DataFrame({**columns, "_row_kind": pl.Series([KINDS[r[KIND]] for r in records], dtype=pl.String)})

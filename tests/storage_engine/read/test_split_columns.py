"""A plan made of columns is the plan that plain Python makes of the same entries, and the one that is made of values."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, reduce
from operator import and_

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine import Catalog, Table
from storage_engine.codec import manifest_columns
from storage_engine.codec.binary_row import serialize_row
from storage_engine.kernel.keys import key_order
from storage_engine.lsm.section_columns import key_ranks
from storage_engine.read.plan import Plan, plan_scan
from storage_engine.read.split_columns import SplitColumns
from storage_engine.read.split_rules import SplitTotals
from storage_engine.spec.manifest import DataFileMeta, FileKind, ManifestEntry, SimpleStats
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.spec.types import parse_type
from storage_engine.store import live_files, manifests
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore
from tests.effort import examples

INT, BIGINT = parse_type("INT"), parse_type("BIGINT")
KEYED = {"primary_key": ["day", "id"], "partitioned_by": ["day"]}
TABLES: dict[str, dict[str, object]] = {
    "merged": KEYED,
    "vectors": KEYED | {"options": {"deletion-vectors.enabled": "true"}},
    "append": {"partitioned_by": ["day"]},
}
POSTPONED = -2


@dataclass(frozen=True, kw_only=True)
class File:
    """A file as the test sees it: ranges are inclusive, ``known`` says of which columns there are statistics."""

    name: str
    day: int
    bucket: int
    level: int
    ids: tuple[int, int]
    values: tuple[int, int]
    numbers: tuple[int, int]
    retractions: int | None
    known: tuple[str, ...] | None

    def entry(self, kind: FileKind) -> ManifestEntry:
        ranges = {"day": (self.day, self.day), "id": self.ids, "v": self.values}
        types = {"day": INT, "id": BIGINT, "v": BIGINT}
        columns = tuple(ranges) if self.known is None else self.known
        lows, highs = (serialize_row([types[c] for c in columns], [ranges[c][end] for c in columns]) for end in (0, 1))
        keys = [serialize_row([BIGINT], [key]) for key in self.ids]
        return ManifestEntry(
            kind=kind,
            partition=serialize_row([INT], [self.day]),
            bucket=self.bucket,
            total_buckets=2,
            file=DataFileMeta(
                file_name=self.name,
                file_size=100,
                row_count=10,
                min_key=keys[0],
                max_key=keys[1],
                key_stats=SimpleStats(min_values=keys[0], max_values=keys[1], null_counts=(0,)),
                value_stats=SimpleStats(min_values=lows, max_values=highs, null_counts=(0,) * len(columns)),
                min_sequence_number=self.numbers[0],
                max_sequence_number=self.numbers[1],
                schema_id=0,
                level=self.level,
                delete_row_count=self.retractions,
                value_stats_cols=self.known,
            ),
        )

    def may_hold(self, wanted: dict[str, int], columns: Sequence[str]) -> bool:
        """Whether no statistics of some columns rule out that a row has these values."""
        ranges = {"day": (self.day, self.day), "id": self.ids, "v": self.values}
        return all(ranges[c][0] <= wanted[c] <= ranges[c][1] for c in columns if c in wanted)


small = st.integers(0, 9)
ranges = st.tuples(small, small).map(lambda pair: (min(pair), max(pair)))
a_file = st.builds(
    File,
    name=st.just(""),
    day=st.integers(0, 2),
    bucket=st.sampled_from([0, 0, 1, POSTPONED]),
    level=st.sampled_from([0, 1, 2, 2]),
    ids=ranges,
    values=ranges,
    numbers=ranges,
    retractions=st.sampled_from([0, 0, 0, 1, None]),
    known=st.sampled_from([None, None, ("v",), ("id", "v"), ()]),
)
wishes = st.fixed_dictionaries({}, optional={"day": st.integers(0, 3), "id": small, "v": small})


@st.composite
def histories(draw: st.DrawFn) -> list[list[tuple[FileKind, File]]]:
    """Manifests that add files and remove some that others, or they themselves, add."""
    listed = [replace(file, name=f"data-{number}") for number, file in enumerate(draw(st.lists(a_file, max_size=12)))]
    events = [(FileKind.ADD, file) for file in listed]
    if listed:
        events += [(FileKind.DELETE, file) for file in draw(st.lists(st.sampled_from(listed), max_size=3, unique=True))]
    cut = draw(st.integers(0, len(events)))
    return [part for part in (events[:cut], events[cut:]) if part]


@cache
def table_of(kind: str) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    columns = {"day": "INT NOT NULL", "id": "BIGINT NOT NULL", "v": "BIGINT"}
    return catalog.create_table("db.t", columns, **TABLES[kind])  # type: ignore[arg-type]


def planned(
    kind: str, history: list[list[tuple[FileKind, File]]], wanted: dict[str, int], *, top: bool, many: int
) -> Plan:
    table = table_of(kind)
    with pytest.MonkeyPatch.context() as patch:
        for module in (live_files, manifests):
            patch.setattr(module, "MANY", many)
        patch.setattr(manifest_columns, "_SMALL_BYTES", 0 if many == 0 else 1 << 30)
        store = table.store.manifests(table.schema)
        metas = [meta for part in history for meta in store.write([file.entry(kind) for kind, file in part])]
        (base, base_size), (delta, delta_size) = store.write_list(metas), store.write_list([])
        snapshot = Snapshot(
            id=1,
            schema_id=0,
            base_manifest_list=base,
            base_manifest_list_size=base_size,
            delta_manifest_list=delta,
            delta_manifest_list_size=delta_size,
            commit_user="test",
            commit_identifier=1,
            commit_kind=CommitKind.APPEND,
            time_millis=0,
            total_record_count=0,
            delta_record_count=0,
        )
        parts = [pl.col(name) == value for name, value in wanted.items()]
        predicate = reduce(and_, parts) if parts else None
        live = LiveFiles(TableStore.open(table.store.io, table.store.paths.root), table.schema)  # with nothing cached
        return plan_scan(live, table.schema, snapshot, predicate, read_optimized=top)


def plainly(
    kind: str, history: list[list[tuple[FileKind, File]]], wanted: dict[str, int], *, top: bool
) -> Iterator[tuple[bool, list[File]]]:
    """The splits: whether they are read raw, and their files."""
    events = [event for part in history for event in part]
    removed = {file.name for event, file in events if event is FileKind.DELETE}
    buckets: dict[tuple[int, int], list[File]] = {}
    for event, file in events:
        if event is FileKind.ADD and file.name not in removed and wanted.get("day", file.day) == file.day:
            buckets.setdefault((file.day, file.bucket), []).append(file)
    for (_, bucket), files in buckets.items():
        if bucket == POSTPONED:
            continue
        for raw, members in plain_splits(kind, files, top=top):
            if not raw and any(file.may_hold(wanted, ["id"]) for file in members):
                yield raw, members
            if raw:
                columns = ["day", "id", "v"]
                left = [f for f in members if f.may_hold(wanted, columns if f.known is None else f.known)]
                if left:
                    yield raw, left


def plain_splits(kind: str, files: list[File], *, top: bool) -> Iterator[tuple[bool, list[File]]]:
    highest = max(file.level for file in files)
    if kind == "append":
        yield True, sorted(files, key=lambda file: file.numbers)
    elif top or kind == "vectors":
        chosen = [file for file in files if file.level > 0 and (not top or file.level == highest)]
        if chosen:
            yield True, chosen
    elif highest > 0 and all(file.level == highest and file.retractions == 0 for file in files):
        yield True, files
    else:
        left = sorted(files, key=lambda file: file.ids)
        while left:
            members, end = [left[0]], left[0].ids[1]
            while len(members) < len(left) and left[len(members)].ids[0] <= end:
                end = max(end, left[len(members)].ids[1])
                members.append(left[len(members)])
            left = left[len(members) :]
            yield len(members) == 1 and members[0].retractions == 0, members


@given(st.sampled_from(sorted(TABLES)), histories(), wishes, st.booleans())
@settings(max_examples=examples(80), deadline=None)
def test_columns_make_the_plan_of_plain_python(
    kind: str, history: list[list[tuple[FileKind, File]]], wanted: dict[str, int], top: bool
) -> None:
    top = top and kind != "append"
    by_columns = planned(kind, history, wanted, top=top, many=0)
    splits = list(by_columns.splits)
    named = [(split.raw, [file.file_name for file in split.files]) for split in splits]
    model = [(raw, [file.name for file in files]) for raw, files in plainly(kind, history, wanted, top=top)]
    # The order of files that are merged is that of their sorted runs, which ``lsm.levels`` has tests for.
    assert [(raw, files if raw else sorted(files)) for raw, files in named] == [
        (raw, files if raw else sorted(files)) for raw, files in model
    ]
    by_values = planned(kind, history, wanted, top=top, many=1 << 30)
    assert isinstance(by_values.splits, tuple)
    assert list(by_values.splits) == splits
    assert by_columns.totals == by_values.totals == SplitTotals.of(splits)
    assert (by_values.files_read, by_values.files_pruned) == (by_columns.files_read, by_columns.files_pruned)
    assert by_columns.files_read == sum(len(files) for _, files in named)
    assert isinstance(by_columns.splits, SplitColumns) or not splits
    assert [by_columns.splits[place] for place in (0, -1) if splits] == splits[:1] + splits[-1:]


def test_splits_are_made_in_portions_that_end_with_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage_engine.read.split_columns._AT_ONCE", 2)
    file = File(name="", day=0, bucket=0, level=0, ids=(0, 0), values=(0, 0), numbers=(0, 0), retractions=0, known=None)
    files = [replace(file, name=f"data-{number}", day=number % 3, ids=(number, number)) for number in range(12)]
    plan = planned("merged", [[(FileKind.ADD, each) for each in files]], {}, top=False, many=0)
    found = list(plan.splits)
    assert len(found) == len(plan.splits) == 12
    assert [split.files[0].file_name for split in found] == [f"data-{n + m}" for n in range(3) for m in range(0, 12, 3)]
    assert all(len(split.bucket.files) == 4 for split in found)


KEYS = {
    "INT": st.integers(-5, 5),
    "BIGINT": st.integers(-(2**63), 2**63 - 1),
    "STRING": st.text(max_size=10),
    "BYTES": st.binary(max_size=10),
    "BOOLEAN": st.booleans(),
    "DECIMAL(30, 2)": st.decimals(-(10**20), 10**20, places=2),
    "TIMESTAMP(9)": st.datetimes(),
    "TIMESTAMP(3)": st.datetimes().map(lambda moment: moment.replace(microsecond=0)),
    "DOUBLE": st.floats(allow_nan=False),
}


@given(st.data())
@settings(max_examples=examples(60), deadline=None)
def test_ranks_are_in_the_order_of_keys(data: st.DataObject) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3))
    rows = data.draw(st.lists(st.tuples(*(st.none() | KEYS[name] for name in names)), min_size=1, max_size=10))
    types = [parse_type(name) for name in names]
    ranks = key_ranks(types, pl.Series([serialize_row(types, row) for row in rows], dtype=pl.Binary)).tolist()
    keys = [key_order(row) for row in rows]
    for key, rank in zip(keys, ranks, strict=True):
        assert [(other < key, other == key) for other in keys] == [(other < rank, other == rank) for other in ranks]

"""Plans of scans over very many files. The files are listed in manifests only: a plan reads none of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.java_peer import NAME as JAVA
from benchmarks.rounds import Bench
from storage_engine import Catalog
from storage_engine.codec.binary_row import serialize_row
from storage_engine.read.plan import plan_scan
from storage_engine.spec.manifest import DataFileMeta, FileSource, SimpleStats
from storage_engine.spec.snapshot import CommitKind
from storage_engine.store.live_files import LiveFiles
from storage_engine.write.commit import CommitRequest, FileStoreCommit, adds

PARTITIONS, FILES_EACH = 10_000, 10
_ONE, _ALL, _MADE = "one partition", "all partitions", "all partitions, each split made"
_GOALS_S = {_ONE: 0.3, _ALL: 3.0, _MADE: None}
_WARM_UPS = 3


def run(bench: Bench) -> Iterator[Section]:
    """Seconds of a plan by a new handle, with nothing cached, beside Java."""
    partitions = max(10, int(PARTITIONS * bench.scale))
    warehouse = bench.folder / "planning"
    _fill(warehouse, partitions)
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(bench.rounds + _WARM_UPS):
        for work, partition in ((_ONE, partitions // 2), (_ALL, None), (_MADE, None)):
            if number >= _WARM_UPS:
                taken[work, OURS].append(_plan(warehouse, partition, partitions, make=work == _MADE))
            if bench.java and work != _ALL:
                seconds = bench.java.plan(warehouse, partition)
                if number >= _WARM_UPS:
                    taken[work, JAVA].append(seconds)
    yield Section(
        title="Planning a scan",
        text=(
            f"{partitions * FILES_EACH:,} files in {partitions:,} partitions; each plan by a new handle, nothing cached. A plan"
            " of so many files is made of columns, and a split becomes an object when it is read: the last work makes all of"
            " them, as Java does."
        ),
        figures=tuple(
            Figure(work=work, engine=engine, values=tuple(values), most=_GOALS_S[work] if engine == OURS else None)
            for (work, engine), values in taken.items()
        ),
    )


def _plan(warehouse: Path, partition: int | None, partitions: int, *, make: bool) -> float:
    predicate = None if partition is None else pl.col("day") == partition
    started = time.perf_counter()
    table = Catalog(str(warehouse)).table("db.t")
    plan = plan_scan(LiveFiles(table.store, table.schema), table.schema, table.latest_snapshot(), predicate)
    made = sum(len(split.files) for split in plan.splits) if make else plan.files_read
    taken = time.perf_counter() - started
    expected = FILES_EACH * (partitions if partition is None else 1)
    if plan.files_read != expected or made != expected:
        raise RuntimeError(f"the plan has {plan.files_read} files, expected {expected}")
    return taken


def _fill(warehouse: Path, partitions: int) -> None:
    catalog = Catalog(str(warehouse))
    catalog.create_database("db")
    columns = {"day": "INT NOT NULL", "id": "BIGINT NOT NULL", "name": "STRING", "score": "BIGINT"}
    options = {"bucket": str(FILES_EACH)}
    catalog.create_table("db.t", columns, primary_key=["day", "id"], partitioned_by=["day"], options=options)
    table = catalog.table("db.t")
    schema = table.schema
    key, all_columns = schema.types_of(["id"]), [t.with_nullable(True) for t in schema.types_of(schema.column_names)]
    ends = [serialize_row(key, [end]) for end in (0, 1_000_000)]
    key_stats = SimpleStats(min_values=ends[0], max_values=ends[1], null_counts=(0,))
    delta = []
    for day in range(partitions):
        values = [serialize_row(all_columns, [day, end, f"name {end}", end]) for end in (0, 1_000_000)]
        stats = SimpleStats(min_values=values[0], max_values=values[1], null_counts=(0, 0, 0, 0))
        for bucket in range(FILES_EACH):
            meta = DataFileMeta(
                file_name=f"data-00000000-0000-4000-8000-{day:012d}-{bucket}.parquet",
                file_size=1_000_000 + day,
                row_count=10_000,
                min_key=ends[0],
                max_key=ends[1],
                key_stats=key_stats,
                value_stats=stats,
                min_sequence_number=0,
                max_sequence_number=9_999,
                schema_id=0,
                level=5,
                creation_time_millis=1_700_000_000_000,
                file_source=FileSource.COMPACT,
            )
            partition = serialize_row(schema.types_of(["day"]), [day])
            delta += adds(partition, bucket, FILES_EACH, [meta])
    commit = FileStoreCommit(table.store, schema, LiveFiles(table.store, schema), table="db.t")
    commit.commit(CommitRequest(kind=CommitKind.APPEND, user="bench", identifier=1, delta=tuple(delta)))

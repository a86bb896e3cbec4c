"""Writes that are larger than memory are one commit all the same, and leave nothing behind if they are refused."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import CommitConflict, InvalidRows
from storage_engine.spec.snapshot import CommitKind
from storage_engine.write.write_buffer import WriteBuffer

SMALL = {"write-buffer-size": "512 kb"}
ROWS = 20_000


def a_table(options: dict[str, str] | None = None, *, primary_key: tuple[str, ...] = ("day", "id")) -> Table:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    catalog.create_table(
        "db.t",
        {"day": "STRING", "id": "INT NOT NULL", "n": "BIGINT"},
        primary_key=list(primary_key),
        partitioned_by=["day"],
        options={"bucket": "2", **SMALL, **(options or {})},
    )
    return catalog.table("db.t")


def lazy(rows: int = ROWS, n: int = 0, *, bad_from: int | None = None) -> pl.LazyFrame:
    number = pl.int_range(rows, dtype=pl.Int32)
    day = pl.format("2024-01-0{}", number % 2 + 1).alias("day")
    ids = pl.when(number < (rows if bad_from is None else bad_from)).then(number).alias("id")
    return pl.select(number).lazy().select(day, ids, (number.cast(pl.Int64) + n).alias("n"))


def files_of(table: Table) -> set[str]:
    found = table.store.io.list_files(table.store.paths.root, recursive=True)
    return {file.path for file in found if "/bucket-" in file.path or "/index/" in file.path}


@pytest.fixture
def flushes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    flush = WriteBuffer.flush

    def counted(buffer: WriteBuffer) -> None:
        seen.append(1)
        flush(buffer)

    monkeypatch.setattr(WriteBuffer, "flush", counted)
    return seen


TABLES: dict[str, dict[str, Any]] = {
    "fixed buckets": {},
    "write-only": {"options": {"write-only": "true"}},
    "lookup changelog": {"options": {"changelog-producer": "lookup"}},
    "input changelog": {"options": {"changelog-producer": "input"}},
    "deletion vectors": {"options": {"deletion-vectors.enabled": "true"}},
    "dynamic buckets": {"options": {"bucket": "-1", "dynamic-bucket.target-row-num": "9000"}},
    "append": {"primary_key": (), "options": {"bucket": "-1"}},
}
POSTPONED = {"bucket": "-2", "postpone.default-bucket-num": "2"}


@pytest.mark.parametrize("kind", TABLES)
def test_a_frame_larger_than_the_buffer_is_one_commit(kind: str, flushes: list[int]) -> None:
    table = a_table(**TABLES[kind])
    for n in (0, 7):
        del flushes[:]
        table.write(lazy(n=n), commit_user="u", commit_identifier=n)
        assert len(flushes) > 2
        assert table.write(lazy(), commit_user="u", commit_identifier=n) is None
    kinds = [table.store.snapshots.get(id_).commit_kind for id_ in table.store.snapshots.ids()]
    assert kinds.count(CommitKind.APPEND) == 2
    found = table.scan().sort("id", "n").collect()
    if kind == "append":
        assert found["n"].sum() == lazy(n=0).collect()["n"].sum() + lazy(n=7).collect()["n"].sum()
        return
    assert found.equals(lazy(n=7).sort("id").collect())
    if "changelog" in kind:
        changes = table.changes(0).collect()
        assert changes.filter(pl.col("_row_kind").is_in(["+I", "+U"])).height == 2 * ROWS


@pytest.mark.parametrize("mode", [{}, {"changelog-producer": "lookup"}, {"deletion-vectors.enabled": "true"}], ids=str)
def test_postponed_rows_larger_than_the_buffer(mode: dict[str, str], flushes: list[int]) -> None:
    """The last row of a key wins, whichever flush it was in; the compaction takes no more at once than the buffer holds."""
    table = a_table({**POSTPONED, **mode})
    table.write(pl.concat([lazy(n=0), lazy(n=7)]), commit_user="u", commit_identifier=1)
    assert len(flushes) > 2
    assert table.write(lazy(), commit_user="u", commit_identifier=1) is None
    assert [table.store.snapshots.get(id_).commit_kind for id_ in table.store.snapshots.ids()] == [CommitKind.APPEND]
    assert set(table.files()["bucket"]) == {-2}
    assert all("-u-u-s-" in path for path in table.files()["file_path"])
    assert table.scan().collect().is_empty()
    table.compact()
    assert table.scan().sort("id").collect().equals(lazy(n=7).sort("id").collect())
    if "changelog-producer" in mode:
        assert table.changes(0).collect().filter(pl.col("_row_kind") == "+I").height == ROWS


def test_an_overwrite_of_postponed_rows_larger_than_the_buffer(flushes: list[int]) -> None:
    table = a_table(POSTPONED)
    table.write(lazy(n=9))
    table.compact()
    table.overwrite(lazy(ROWS // 2))
    assert len(flushes) > 4
    table.compact()
    assert table.scan().sort("id").collect().equals(lazy(ROWS // 2).sort("id").collect())


def test_several_processes_share_a_write_of_postponed_rows() -> None:
    table = a_table(POSTPONED)
    messages = []
    for rows in (lazy().head(ROWS // 2), lazy().tail(ROWS // 2)):
        with table.new_write() as write:
            write.write(rows.collect())
            messages += write.prepare_commit()
    assert table.commit(messages, commit_user="load", commit_identifier=1) is not None
    assert table.commit(messages, commit_user="load", commit_identifier=1) is None
    table.compact()
    assert table.scan().sort("id").collect().equals(lazy().sort("id").collect())


@pytest.mark.parametrize("kind", ["fixed buckets", "dynamic buckets", "postponed buckets"])
def test_a_bad_row_at_the_end_refuses_the_whole(kind: str, flushes: list[int]) -> None:
    table = a_table(**{**TABLES, "postponed buckets": {"options": POSTPONED}}[kind])
    with pytest.raises(InvalidRows, match=f"column 'id', row {ROWS - 3}.*nothing was written"):
        table.write(lazy(bad_from=ROWS - 3))
    assert len(flushes) > 2
    assert table.latest_snapshot() is None
    assert files_of(table) == set()


def test_a_record_batch_reader_is_written_batch_by_batch(flushes: list[int]) -> None:
    table = a_table()

    def batches() -> Iterator[pa.RecordBatch]:
        for part in lazy().collect().iter_slices(4000):
            yield from part.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()

    schema = lazy(1).collect().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    table.write(pa.RecordBatchReader.from_batches(schema, batches()))
    assert len(flushes) > 2
    assert table.scan().sort("id").collect().equals(lazy().sort("id").collect())


@pytest.mark.parametrize("kind", TABLES)
def test_an_overwrite_larger_than_the_buffer(kind: str, flushes: list[int]) -> None:
    table = a_table(**TABLES[kind])
    table.write(pl.DataFrame({"day": ["2024-01-01", "2024-01-09"], "id": [-1, -9], "n": [1, 9]}))
    before = files_of(table)
    table.overwrite(lazy())
    assert len(flushes) > 2
    kept = pl.DataFrame({"day": "2024-01-09", "id": -9, "n": 9}, schema=lazy().collect_schema())
    assert table.scan().sort("id").collect().equals(pl.concat([kept, lazy().sort("id").collect()]))
    live = set(table.files()["file_path"])
    data = {path for path in files_of(table) - before if "/bucket-" in path}
    assert all(any(path.endswith(name.rsplit("/", 1)[-1]) for name in live) for path in data)
    if kind in ("fixed buckets", "deletion vectors"):
        assert set(table.files().filter(pl.col("partition") != "{2024-01-09}")["level"]) == {5}


def test_an_empty_lazy_frame_moves_the_offset() -> None:
    table = a_table()
    assert table.write(lazy(0)) is None
    assert table.write(lazy(0), commit_user="u", commit_identifier=3) is not None
    assert table.last_committed("u") == 3


def test_a_conflict_of_dynamic_buckets_leaves_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    table = a_table(**TABLES["dynamic buckets"])

    def rivalled() -> Iterator[pa.RecordBatch]:
        yield from lazy().collect().to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches(max_chunksize=4000)
        Table(table.name, table.store, table.schema).write(lazy(10))

    schema = lazy(1).collect().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
    with pytest.raises(CommitConflict):
        table.write(pa.RecordBatchReader.from_batches(schema, rivalled()))
    assert table.scan().sort("id").collect().equals(lazy(10).sort("id").collect())
    assert {path for path in files_of(table) if "/bucket-" in path} == {
        path
        for path in files_of(table)
        if path.rsplit("/", 1)[-1] in {p.rsplit("/", 1)[-1] for p in table.files()["file_path"]}
    }

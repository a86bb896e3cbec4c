"""What happened between two snapshots, with row kinds.

Spec: ``incremental-between`` and "streaming read" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import FileMissing, InvalidInput, SnapshotExpired
from storage_engine.kernel.difference import difference
from storage_engine.kernel.key_cuts import SortedRun
from storage_engine.options import ChangelogProducer
from storage_engine.read.portions import Unit, read_with_key
from storage_engine.read.unit_parts import UnitPart
from storage_engine.spec.manifest import FileKind, ManifestEntry
from storage_engine.spec.schema import VALUE_KIND, TableSchema
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.key_marks import sorted_runs
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.table_store import TableStore

ROW_KIND = "_row_kind"
KIND_NAMES = ("+I", "-U", "+U", "-D")
MODES = ("auto", "changelog", "delta", "diff")
Pick = Callable[[Snapshot], Iterator[ManifestEntry]]
"""The files that tell what a snapshot changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReader:
    """Reads changes of one table version."""

    store: TableStore
    schema: TableSchema
    live: LiveFiles
    files: DataFiles
    state_at: Callable[[int], pl.LazyFrame]
    """The batch read at a snapshot id, for mode ``diff``."""

    def read(self, after: int, until: int, *, mode: str, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Changes of the snapshots ``(after, until]``: ``_row_kind``, then the table's columns, in snapshot order.

        ``columns``: these alone are read of files, at least one. Raises InvalidInput for an unknown mode or column,
        SnapshotExpired if part of the range is gone.
        """
        if mode not in MODES:
            raise InvalidInput(f"mode {mode!r} is not known; expected one of {', '.join(MODES)}")
        if mode == "auto":
            producer = self.schema.table_options.changelog_producer
            mode = "delta" if producer is ChangelogProducer.NONE else "changelog"
        names = list(self.schema.column_names if columns is None else columns)
        unknown = next((name for name in names if name not in self.schema.by_name), None)
        if unknown is not None or not names:
            raise InvalidInput(f"columns {names}: {unknown!r} is none of {', '.join(self.schema.column_names)}")
        if mode == "diff":
            return self._diff(after, until).select(ROW_KIND, *names)
        pick = self._changelog if mode == "changelog" else self._delta
        parts = [self._changes(self.store.snapshots.committed(id_), pick, names) for id_ in range(after + 1, until + 1)]
        return pl.concat([self.empty(names), *parts])

    def _changes(self, snapshot: Snapshot, pick: Pick, names: list[str]) -> pl.DataFrame:
        """What a snapshot tells. Raises SnapshotExpired if it expired meanwhile, or before a tag brought its rows back."""
        try:
            return self._rows(pick(snapshot), names)
        except FileMissing as cause:
            self.store.snapshots.forget()
            if snapshot.id > (self.store.snapshots.earliest_id() or 0):
                raise
            raise SnapshotExpired(
                f"{self.store.paths.snapshots}: the changes of snapshot {snapshot.id} expired ({cause});"
                f" its rows may be there still: read them, and the changes after {snapshot.id}"
            ) from cause

    def units(self, after: int, until: int, names: Sequence[str]) -> list[Unit]:
        """The same in units: a bucket's files, or each file of a table without keys. Their frames have the key, too."""
        read = read_with_key(self.schema, names)
        none = self.schema.table_options.changelog_producer is ChangelogProducer.NONE
        pick = self._delta if none else self._changelog
        entries = [entry for id_ in range(after + 1, until + 1) for entry in pick(self.store.snapshots.committed(id_))]
        groups: dict[object, list[ManifestEntry]] = {}
        for at, entry in enumerate(entries):
            apart = (entry.partition, entry.bucket) if self.schema.primary_keys else at
            groups.setdefault(0 if self.schema.is_cross_partition else apart, []).append(entry)
        ordered = sorted(groups.items()) if self.schema.primary_keys else groups.items()
        return [
            Unit(
                rows=sum(entry.file.row_count for entry in group),
                file_bytes=sum(entry.file.file_size for entry in group),
                frames=lambda part, group=group: self._frames(group, read, part),  # type: ignore[misc]
                runs=lambda group=group: self._runs(group),  # type: ignore[misc]
            )
            for _, group in ordered
        ]

    def _frames(self, entries: Sequence[ManifestEntry], names: Sequence[str], part: UnitPart) -> Iterator[pl.DataFrame]:
        """The changes of a part of some files, a part of a file at a time."""
        columns = [VALUE_KIND, *names]
        portion_bytes = MemoryBudget.of(self.schema).range_bytes
        predicate = part.predicate(self.schema)
        for entry in (each for each in entries if part.may_hold(each.file, self.schema)):
            directory, places = self._directory(entry), None
            if part.of > 1 and not self.schema.primary_keys:
                places = part.places(entry.file.row_count)
            frames = self.files.read_portions(entry.file, directory, columns, portion_bytes, predicate, places=places)
            found = frames if predicate is None else (frame.filter(predicate) for frame in frames)
            for frame in found if places is not None else part.kept(found, self.schema):
                yield frame.select(row_kind(), *names)

    def _runs(self, entries: Sequence[ManifestEntry]) -> list[SortedRun]:
        placed = [(entry.file, self._directory(entry)) for entry in entries]
        return sorted_runs(self.store.io, self.files, self.schema, placed)

    def _changelog(self, snapshot: Snapshot) -> Iterator[ManifestEntry]:
        if snapshot.changelog_manifest_list is not None and snapshot.commit_kind is not CommitKind.OVERWRITE:
            yield from self._listed(snapshot.changelog_manifest_list, snapshot.changelog_manifest_list_size)

    def _delta(self, snapshot: Snapshot) -> Iterator[ManifestEntry]:
        if snapshot.commit_kind is CommitKind.APPEND:
            yield from self._listed(snapshot.delta_manifest_list, snapshot.delta_manifest_list_size)

    def _listed(self, name: str, size: int | None) -> Iterator[ManifestEntry]:
        for meta in self.live.manifests.read_list(name, size):
            for entry in self.live.manifests.read(meta):
                if entry.kind is FileKind.ADD:
                    yield entry

    def _rows(self, entries: Iterable[ManifestEntry], names: list[str]) -> pl.DataFrame:
        columns = [VALUE_KIND, *names]
        parts = [self.files.read(entry.file, self._directory(entry), columns) for entry in entries]
        if not parts:
            return self.empty(names)
        return pl.concat(parts).select(row_kind(), *names)

    def _directory(self, entry: ManifestEntry) -> str:
        return self.live.empty_bucket(entry.partition, entry.bucket, entry.total_buckets).directory

    def _diff(self, after: int, until: int) -> pl.DataFrame:
        states = self.state_at(after).collect(), self.state_at(until).collect()
        return difference(*states, keys=self.schema.primary_keys).select(ROW_KIND, *self.schema.column_names)

    def empty(self, names: Sequence[str]) -> pl.DataFrame:
        """No changes of some columns."""
        dtypes = self.schema.polars_schema
        return pl.DataFrame(schema={ROW_KIND: pl.String(), **{name: dtypes[name] for name in names}})


def row_kind() -> pl.Expr:
    """``_VALUE_KIND`` (Int8) as ``_row_kind`` (String)."""
    kinds = pl.lit(pl.Series(KIND_NAMES))
    return kinds.gather(pl.col(VALUE_KIND)).alias(ROW_KIND)

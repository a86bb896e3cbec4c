"""Where each key lives, for tables whose primary key lacks a partition column: rows that move are deleted where they were.

Spec: "Cross Partitions Upsert" of Apache Paimon 1.3.1 (bucket mode KEY_DYNAMIC). Nothing on disk remembers them: they are
read from the files' key columns. ``deduplicate`` deletes the old row and inserts the new one; ``partial-update`` and
``aggregation`` write to the old partition; ``first-row`` leaves the new row out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import polars as pl

from storage_engine.codec.binary_row import deserialize_row, serialize_row
from storage_engine.errors import InvalidRows, Unsupported
from storage_engine.kernel.merge import MergePlan, drop_retracts, merge
from storage_engine.options import MergeEngine
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.snapshot import KEEPING_ROWS, Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.live_files import Bucket, BucketKey, LiveFiles
from storage_engine.store.merge_frames import GROUP, LEVEL, FilePart, lowest_level_only, read_parts
from storage_engine.store.snapshots import SnapshotStore
from storage_engine.write.bucket_router import RoutedFrame

_PARTITION, _BUCKET, _OLD_PARTITION, _OLD_BUCKET = "_PARTITION", "_BUCKET", "_OLD_PARTITION", "_OLD_BUCKET"
_ORDER, _BEFORE = "_ORDER", "_BEFORE"
_DELETE = 3
_PASS_BYTES = 256 << 20  # files whose keys are read in one pass, as stored
_PLACE = {_PARTITION: pl.Int32(), _BUCKET: pl.Int32()}


class KeyLocations:
    """The place of each key of one table version, kept from commit to commit.

    REQUIRES: one writer at a time; a commit checks that no other one has changed rows since the places were read.
    """

    def __init__(self, snapshots: SnapshotStore, schema: TableSchema, live: LiveFiles, files: DataFiles) -> None:
        self._snapshots = snapshots
        self._schema = schema
        self._live = live
        self._files = files
        self._keys = list(schema.primary_keys)
        if MergePlan.of(schema).ignore_delete and schema.table_options.merge_engine is MergeEngine.DEDUPLICATE:
            raise Unsupported("option 'ignore-delete' cannot go with rows that move between partitions: leave it out")
        self._partition_types = schema.types_of(schema.partition_keys)
        self._key_schema = pl.Schema({name: schema.polars_schema[name] for name in self._keys})
        self._partitions: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._places = self._empty()
        self._at: Snapshot | None = None
        self._pending: pl.DataFrame | None = None

    def route(self, frame: pl.DataFrame, base: Snapshot | None, *, replaced: Collection[bytes] | None) -> RoutedFrame:
        """The rows to be written, each with its group: those of the frame, and deletes of rows that move.

        ``replaced``: partitions whose rows are being overwritten. Raises InvalidRows if a key of an overwriting frame lives in
        another partition.
        """
        self._refresh(base)
        known = self._places if replaced is None else self._outside(frame, replaced)
        rows = frame.with_columns(self._partition_numbers(frame)).with_row_index(_ORDER)
        rows = rows.join(
            known.rename({_PARTITION: _OLD_PARTITION, _BUCKET: _OLD_BUCKET}),
            on=self._keys,
            how="left",
            maintain_order="left",
        )
        moved = _ENGINES[self._schema.table_options.merge_engine](self, rows)
        placed = self._assigned(moved, known)
        self._pending = self._after(placed, known)
        return self._grouped(placed)

    def committed(self, base: Snapshot | None, snapshot: Snapshot | None) -> None:
        """The routed rows are committed as a snapshot (None: not at all)."""
        follows = snapshot is not None and snapshot.id == (1 if base is None else base.id + 1)
        if follows and snapshot is not None and self._pending is not None:
            self._places, self._at = self._pending, snapshot
        self._pending = None

    def _empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema={**self._key_schema, **_PLACE})

    def _refresh(self, base: Snapshot | None) -> None:
        """Read the places anew, of the buckets alone that others changed since the last time if that is known."""
        if base == self._at:
            return
        changed = self._changed_buckets(0 if base is None else base.id)
        if changed is None:
            self._places = self._read(list(self._live.buckets(base).values()))
        elif changed:
            gone = pl.DataFrame(
                [(self._number(partition), bucket) for partition, bucket in sorted(changed)],
                schema=_PLACE,
                orient="row",
            )
            found = self._read(list(self._live.buckets(base, only=changed).values()))
            kept = self._places.join(gone, on=[_PARTITION, _BUCKET], how="anti", maintain_order="left")
            kept = kept.join(found, on=self._keys, how="anti", maintain_order="left")  # deleted here, written there
            self._places = pl.concat([kept, found])
        self._at = base

    def _changed_buckets(self, latest: int) -> frozenset[BucketKey] | None:
        """The buckets whose rows changed since the places were read; None: all may have."""
        at = self._at
        if at is None or at.id >= latest or at.id not in self._snapshots.ids() or self._snapshots.get(at.id) != at:
            return None  # or it was rolled back, and its number is another snapshot's
        snapshots = [self._snapshots.get(id_) for id_ in range(at.id + 1, latest + 1)]
        changing = [snapshot for snapshot in snapshots if snapshot.commit_kind not in KEEPING_ROWS]
        return frozenset(
            (entry.partition, entry.bucket)
            for snapshot in changing
            for meta in self._live.manifests.read_list(snapshot.delta_manifest_list, snapshot.delta_manifest_list_size)
            for entry in self._live.manifests.read(meta)
        )

    def _read(self, buckets: Sequence[Bucket]) -> pl.DataFrame:
        """The places of all keys that are visible in some buckets."""
        plan = MergePlan.of(self._schema).restricted(())
        options = self._schema.table_options
        found = [self._empty()]
        for some in _portions(buckets):
            parts = [
                FilePart(meta=file, directory=bucket.directory, vector=bucket.vectors.get(file.file_name), group=number)
                for number, bucket in enumerate(some)
                for file in bucket.files
            ]
            rows = read_parts(self._files, parts, [*plan.columns_needed(()), SEQUENCE_NUMBER, VALUE_KIND])
            if options.needs_lookup and options.merge_engine is not MergeEngine.DEDUPLICATE:
                upper = lowest_level_only(rows.filter(pl.col(LEVEL) > 0), [GROUP, *plan.keys])
                rows = pl.concat([rows.filter(pl.col(LEVEL) == 0), upper])
            merged = drop_retracts(merge(rows.drop(LEVEL), plan, group=(GROUP,)))
            places = pl.DataFrame(
                [(self._number(bucket.partition), bucket.bucket) for bucket in some], schema=_PLACE, orient="row"
            )
            placed = merged.select(plan.keys).hstack(places[merged[GROUP]])
            partition = self._values(placed[_PARTITION]).select(name for name in self._keys if name not in plan.keys)
            found.append(placed.hstack(partition).select(found[0].columns))
        return pl.concat(found)

    def _outside(self, frame: pl.DataFrame, replaced: Collection[bytes]) -> pl.DataFrame:
        """No places: those of replaced partitions are forgotten, and others must not hold a key of the frame."""
        numbers = [self._number(partition) for partition in replaced]
        others = self._places.filter(~pl.col(_PARTITION).is_in(numbers))
        twice = frame.select(self._keys).join(others, on=self._keys, how="inner")
        if not twice.is_empty():
            values = deserialize_row(self._partition_types, self._partitions[twice[_PARTITION][0]])
            raise InvalidRows(
                f"key {twice.select(self._keys).row(0)} lives in partition {values}, which is not overwritten: overwrite that"
                " partition too, or write the row"
            )
        return others

    def _number(self, partition: bytes) -> int:
        number = self._numbers.setdefault(partition, len(self._partitions))
        if number == len(self._partitions):
            self._partitions.append(partition)
        return number

    def _partition_numbers(self, frame: pl.DataFrame) -> pl.Series:
        names = list(self._schema.partition_keys)
        distinct = frame.select(names).unique(maintain_order=True)
        numbers = [self._number(serialize_row(self._partition_types, values)) for values in distinct.iter_rows()]
        numbered = distinct.with_columns(pl.Series(_PARTITION, numbers, dtype=pl.Int32))
        return frame.select(names).join(numbered, on=names, how="left", nulls_equal=True, maintain_order="left")[
            _PARTITION
        ]

    def _values(self, numbers: pl.Series) -> pl.DataFrame:
        """The partition columns of rows by the number of their partition."""
        names = self._schema.partition_keys
        rows = [deserialize_row(self._partition_types, partition) for partition in self._partitions]
        schema = {name: self._schema.polars_schema[name] for name in names}
        return pl.DataFrame(rows, schema=schema, orient="row")[numbers]

    def _with_partition(self, rows: pl.DataFrame, numbers: pl.Series) -> pl.DataFrame:
        return rows.with_columns(self._values(numbers).get_columns()).with_columns(numbers.alias(_PARTITION))

    def _moving(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``deduplicate``: before a row whose key was elsewhere, a -D of it there."""
        before = pl.col(_PARTITION).shift(1).over(self._keys, order_by=_ORDER)
        rows = rows.with_columns(pl.coalesce(before, _OLD_PARTITION).alias(_BEFORE))
        leaving = rows.filter(pl.col(_BEFORE).is_not_null() & (pl.col(_BEFORE) != pl.col(_PARTITION)))
        deletes = self._with_partition(leaving, leaving[_BEFORE])
        deletes = deletes.with_columns(pl.lit(_DELETE, pl.Int8).alias(VALUE_KIND))
        both = pl.concat([deletes.with_columns(_ORDER_OF_DELETE), rows.with_columns(_ORDER_OF_ROW)])
        return both.sort(_ORDER).drop(_BEFORE)

    def _staying(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``partial-update`` and ``aggregation``: all rows of a key go where it first was."""
        return self._with_partition(rows, self._home(rows))

    def _first_alone(self, rows: pl.DataFrame) -> pl.DataFrame:
        """``first-row``: a row of a key that lives elsewhere is left out."""
        return rows.filter(rows[_PARTITION] == self._home(rows))

    def _home(self, rows: pl.DataFrame) -> pl.Series:
        first = pl.col(_PARTITION).first().over(self._keys, order_by=_ORDER)
        return rows.select(pl.coalesce(_OLD_PARTITION, first).alias(_PARTITION)).to_series()

    def _assigned(self, rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """Give each row its bucket: that of its key in the partition, or where the key is new there the first that has room."""
        pairs = rows.select(*self._keys, _PARTITION, _OLD_PARTITION, _OLD_BUCKET)
        pairs = pairs.unique([*self._keys, _PARTITION], keep="first", maintain_order=True)
        at_home = pl.col(_PARTITION) == pl.col(_OLD_PARTITION)
        home = pairs.filter(at_home).select(*self._keys, _PARTITION, pl.col(_OLD_BUCKET).alias(_BUCKET))
        parts = [home]
        new = pairs.filter(~at_home.fill_null(value=False)).select(*self._keys, _PARTITION)
        for (partition,), some in new.partition_by(_PARTITION, as_dict=True, maintain_order=True).items():
            sizes = np.bincount(known.filter(pl.col(_PARTITION) == partition)[_BUCKET].to_numpy())
            parts.append(some.with_columns(pl.Series(_BUCKET, self._spread(some.height, sizes), dtype=pl.Int32)))
        return rows.join(pl.concat(parts), on=[*self._keys, _PARTITION], how="left", maintain_order="left")

    def _spread(self, count: int, sizes: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
        target = self._schema.table_options.dynamic_bucket_target_row_num
        room = np.maximum(target - sizes, 0)
        more = -(-max(0, count - int(room.sum())) // target)
        room = np.concatenate([room, np.full(more, target)])
        found: list[int] = np.repeat(np.arange(len(room)), room)[:count].tolist()
        return found

    def _after(self, rows: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """The places once the rows are committed. A deleted key keeps its place until it is seen in another one."""
        last = rows.select(*self._keys, _PARTITION, _BUCKET).unique(self._keys, keep="last", maintain_order=True)
        return pl.concat(
            [known.join(last, on=self._keys, how="anti", maintain_order="left"), last.select(known.columns)]
        )

    def _grouped(self, rows: pl.DataFrame) -> RoutedFrame:
        places = rows.select(_PARTITION, _BUCKET).unique(maintain_order=True)
        numbered = places.with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias(GROUP))
        groups = rows.select(_PARTITION, _BUCKET).join(
            numbered, on=[_PARTITION, _BUCKET], how="left", maintain_order="left"
        )
        keys = tuple((self._partitions[partition], bucket) for partition, bucket in places.iter_rows())
        frame = rows.select(*self._schema.column_names, VALUE_KIND).with_columns(groups[GROUP])
        return RoutedFrame(frame=frame, keys=keys)


_ORDER_OF_DELETE = (pl.col(_ORDER).cast(pl.Int64) * 2).alias(_ORDER)
_ORDER_OF_ROW = (pl.col(_ORDER).cast(pl.Int64) * 2 + 1).alias(_ORDER)
_ENGINES = {
    MergeEngine.DEDUPLICATE: KeyLocations._moving,  # noqa: SLF001 - its own
    MergeEngine.PARTIAL_UPDATE: KeyLocations._staying,  # noqa: SLF001
    MergeEngine.AGGREGATION: KeyLocations._staying,  # noqa: SLF001
    MergeEngine.FIRST_ROW: KeyLocations._first_alone,  # noqa: SLF001
}


def _portions(buckets: Sequence[Bucket]) -> Iterator[list[Bucket]]:
    some: list[Bucket] = []
    size = 0
    for bucket in buckets:
        some.append(bucket)
        size += sum(file.file_size for file in bucket.files)
        if size >= _PASS_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some

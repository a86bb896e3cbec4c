"""The states of a table, and what differs between two of them, in units that are dealt out into portions.

What neither state reads otherwise than the other one makes no difference: files that both have are left out of it, unless they
are merged with others in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import polars as pl

from storage_engine.kernel.difference import difference
from storage_engine.read.changes import ROW_KIND
from storage_engine.read.portions import Unit, read_with_key
from storage_engine.read.split_rules import Split
from storage_engine.read.unit_parts import PartReader, UnitPart
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.file_io import FileIO
from storage_engine.store.key_marks import sorted_runs

_DYNAMIC = -1
_Key: TypeAlias = tuple[bytes, int, bool, frozenset[str]]


def state_units(
    io: FileIO, splits: Sequence[Split], schema: TableSchema, files: DataFiles, names: Sequence[str]
) -> list[Unit]:
    """A unit for each file that is read as it is, and for each section of files that are merged; of some columns."""
    alone = [each for split in splits for each in _files_alone(split)]
    if schema.primary_keys:
        ordered = sorted(alone, key=lambda split: (*split.bucket.key, min(file.file_name for file in split.files)))
    else:
        ordered = sorted(alone, key=lambda split: split.bucket.key)
    reader = PartReader(schema, files, read_with_key(schema, names))
    read = reader.read if schema.primary_keys else reader.read_places
    return [
        Unit(
            rows=_rows(split),
            file_bytes=_bytes(split),
            frames=lambda part, split=split: read(split, part),  # type: ignore[misc]
            runs=lambda split=split: sorted_runs(io, files, schema, _placed([split])),  # type: ignore[misc]
        )
        for split in ordered
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """What is compared: splits of the old state, and of the new one."""

    old: list[Split] = field(default_factory=list)
    new: list[Split] = field(default_factory=list)


def difference_units(
    io: FileIO,
    states: tuple[Sequence[Split], Sequence[Split]],
    schema: TableSchema,
    files: DataFiles,
    names: Sequence[str],
) -> list[Unit]:
    """What turns the first state into the second one, as changes of some columns, told from the two alone: a unit for each
    bucket, or partition where a key may have changed its bucket.
    """
    read = read_with_key(schema, names)
    reader = PartReader(schema, files, read)
    none = pl.DataFrame(schema={name: schema.polars_schema[name] for name in read})

    def changes(sides: _Sides, part: UnitPart) -> Iterator[pl.DataFrame]:
        before, after = (
            pl.concat([none, *(frame for split in side for frame in reader.read(split, part))])
            for side in (sides.old, sides.new)
        )
        yield difference(before, after, keys=schema.primary_keys).select(ROW_KIND, *read)

    return [
        Unit(
            rows=sum(map(_rows, (*sides.old, *sides.new))),
            file_bytes=sum(map(_bytes, (*sides.old, *sides.new))),
            frames=lambda part, sides=sides: changes(sides, part),  # type: ignore[misc]
            runs=lambda sides=sides: sorted_runs(io, files, schema, _placed([*sides.old, *sides.new])),  # type: ignore[misc]
        )
        for sides in _compared(*states, schema)
    ]


def _compared(old: Sequence[Split], new: Sequence[Split], schema: TableSchema) -> list[_Sides]:
    """What is read of both states, apart where no row of one may be a row of the other."""
    sides = [{_key(each): each for split in splits for each in _files_alone(split)} for splits in (old, new)]
    same = {key for key in sides[0].keys() & sides[1].keys() if _vectors(sides[0][key]) == _vectors(sides[1][key])}
    totals: dict[bytes, set[int]] = {}
    for split in (*old, *new):
        totals.setdefault(split.bucket.partition, set()).add(split.bucket.total_buckets)
    stays = bool(schema.primary_keys) and schema.table_options.bucket != _DYNAMIC
    groups: dict[tuple[bytes, int], _Sides] = {}
    for is_new, side in enumerate(sides):
        for key, split in side.items():
            partition, bucket = split.bucket.key
            apart = (partition, bucket if stays and len(totals[partition]) == 1 else -1)
            group = groups.setdefault((b"", -1) if schema.is_cross_partition else apart, _Sides())
            if key not in same:
                (group.new if is_new else group.old).append(split)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0]) if group.old or group.new]


def _files_alone(split: Split) -> list[Split]:
    return [Split(bucket=split.bucket, files=(file,), raw=True) for file in split.files] if split.raw else [split]


def _key(split: Split) -> _Key:
    return (*split.bucket.key, split.raw, frozenset(file.file_name for file in split.files))


def _vectors(split: Split) -> list[object]:
    return [split.bucket.vectors.get(file.file_name) for file in sorted(split.files, key=lambda file: file.file_name)]


def _rows(split: Split) -> int:
    return sum(file.row_count for file in split.files)


def _bytes(split: Split) -> int:
    return sum(file.file_size for file in split.files)


def _placed(splits: Sequence[Split]) -> list[tuple[DataFileMeta, str]]:
    return [(file, split.bucket.directory) for split in splits for file in split.files]

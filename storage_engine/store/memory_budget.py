"""How much of a table may be in memory at once, and what rows of its files take there.

Spec: option ``write-buffer-size`` of Apache Paimon. A merge holds its rows several times over: as they are read, in order,
merged, and as they are encoded; so it takes up no more rows than a share of the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema

_HELD_SHARE, _RANGE_SHARE, _READ_SHARE = 6, 32, 4
_BATCHES_HELD = 8
_EXPANSION = 3
"""Bytes in memory for a byte of a file, where values are of no fixed width."""
_VALUE_BYTES = 16
_WIDTHS: dict[type[pl.DataType], int] = {
    pl.Boolean: 1,
    pl.Int8: 1,
    pl.Int16: 2,
    pl.Int32: 4,
    pl.Float32: 4,
    pl.Date: 4,
    pl.Int64: 8,
    pl.Float64: 8,
    pl.Datetime: 8,
    pl.Time: 8,
}
_SYSTEM_BYTES = 16

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Bytes that work on one table may take, and the least that a row of it takes."""

    total: int
    row_bytes: int
    column_share: float = 1.0
    """How much of each row is read."""

    @staticmethod
    def of(schema: TableSchema, columns: Collection[str] | None = None) -> MemoryBudget:
        """The budget that a table's options give, for work on some of its columns (None: all)."""
        widths = {name: _WIDTHS.get(type(dtype), _VALUE_BYTES) for name, dtype in schema.polars_schema.items()}
        read = sum(width for name, width in widths.items() if columns is None or name in columns)
        return MemoryBudget(
            total=schema.table_options.write_buffer_size,
            row_bytes=_SYSTEM_BYTES + read,
            column_share=(_SYSTEM_BYTES + read) / (_SYSTEM_BYTES + sum(widths.values())),
        )

    @property
    def range_bytes(self) -> int:
        """Rows that are merged at once where not all can be."""
        return self.total // _RANGE_SHARE

    @property
    def held_bytes(self) -> int:
        """Rows that may be read whole to be merged."""
        return self.total // _HELD_SHARE

    @property
    def batch_rows(self) -> int:
        """Rows to compute at once, of which several batches are held."""
        return max(1000, self.held_bytes // self.row_bytes // _BATCHES_HELD)

    def bytes_of(self, files: Iterable[DataFileMeta]) -> int:
        """About what the rows of files take in memory."""
        expansion = _EXPANSION * self.column_share
        return int(sum(max(file.row_count * self.row_bytes, file.file_size * expansion) for file in files))

    def can_hold(self, files: Iterable[DataFileMeta]) -> bool:
        """Whether the rows of files can be merged as one frame."""
        return self.bytes_of(files) <= self.held_bytes

    def can_read_whole(self, files: Iterable[DataFileMeta]) -> bool:
        """Whether the rows of files can be merged as one frame that is not written again."""
        return self.bytes_of(files) <= self.total // _READ_SHARE

    def can_read_rows(self, rows: int) -> bool:
        """The same of so many rows, whose values are taken to be short."""
        return rows * self.row_bytes <= self.total // _READ_SHARE // _EXPANSION

    def passes(self, items: Sequence[Item], files_of: Callable[[Item], Sequence[DataFileMeta]]) -> Iterator[list[Item]]:
        """Things that can each be held, in portions that can be held together."""
        some: list[Item] = []
        size = 0
        for item in items:
            bytes_of_item = self.bytes_of(files_of(item))
            if some and size + bytes_of_item > self.held_bytes:
                yield some
                some, size = [], 0
            some.append(item)
            size += bytes_of_item
        if some:
            yield some

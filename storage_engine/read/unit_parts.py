"""Parts of rows that are too many to be read at once, so that no more than about the part is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.row_hash import row_hash, shares_of
from storage_engine.read.merge_read import SplitReader
from storage_engine.read.split_rules import Split
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import NESTED_ROOTS, TypeRoot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.formats.portions import rows_at
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import FilePart, find_rows, open_run

_UNHASHED = {*NESTED_ROOTS, TypeRoot.FLOAT, TypeRoot.DOUBLE}
"""Types of whose equal values the hash may differ, or that have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPart:
    """Rows whose first key column is not below ``low`` and below ``high`` (None: no bound), and of these one of ``of`` shares,
    counted from 0: by a hash of the key, or of rows that stand in a file without keys by their places.
    """

    low: Any = None
    high: Any = None
    number: int = 0
    of: int = 1

    def predicate(self, schema: TableSchema) -> pl.Expr | None:
        """What the range asks of a row; None if it is all keys."""
        if self.low is None and self.high is None:
            return None
        column: pl.Expr = pl.col(schema.trimmed_primary_keys[0])
        if self.low is None:
            return column.lt(self.high)
        return column.ge(self.low) if self.high is None else column.ge(self.low) & column.lt(self.high)

    def may_hold(self, file: DataFileMeta, schema: TableSchema) -> bool:
        """Whether a file may hold rows of the range, by the keys that its manifest tells."""
        if self.low is None and self.high is None:
            return True
        types = schema.types_of(schema.trimmed_primary_keys)
        lowest, highest = (deserialize_row(types, key)[0] for key in (file.min_key, file.max_key))
        return not ((self.high is not None and lowest >= self.high) or (self.low is not None and highest < self.low))

    def places(self, rows: int) -> range:
        """The rows of this share, if they are shared out by their places."""
        return range(-(-self.number * rows // self.of), -(-(self.number + 1) * rows // self.of))

    def kept(self, frames: Iterable[pl.DataFrame], schema: TableSchema) -> Iterator[pl.DataFrame]:
        """The rows of this share, of frames that have the key among other columns: by the hash of it, or of whole rows if the
        table has none.
        """
        for frame in frames:
            if self.of == 1:
                yield frame
                continue
            names = list(schema.primary_keys) or _hashed(frame.columns, schema)
            if names:
                own = shares_of(row_hash(frame.select(names), schema.types_of(names)), self.of) == self.number
                yield frame.filter(pl.Series(own))
            else:
                yield frame if self.number == 0 else frame.clear()


WHOLE = UnitPart()


def _hashed(columns: Sequence[str], schema: TableSchema) -> list[str]:
    return [name for name in columns if name in schema.by_name and schema.by_name[name].type.root not in _UNHASHED]


class PartReader:
    """Reads parts of splits of one table version."""

    def __init__(self, schema: TableSchema, files: DataFiles, columns: Sequence[str]) -> None:
        """``columns``: those wanted, the key among them."""
        self._schema = schema
        self._files = files
        self._columns = list(columns)
        self._portion_bytes = MemoryBudget.of(schema).range_bytes

    def read(self, split: Split, part: UnitPart) -> Iterator[pl.DataFrame]:
        """The rows of a part in their order, some at a time. Raises CorruptFile."""
        if not any(part.may_hold(file, self._schema) for file in split.files):
            return iter(())
        return part.kept(self._of_range(split, part.predicate(self._schema)), self._schema)

    def _of_range(self, split: Split, predicate: pl.Expr | None) -> Iterator[pl.DataFrame]:
        if predicate is None or not split.raw:
            yield from SplitReader(self._schema, self._files, columns=self._columns, predicate=predicate).read(split)
            return
        for file in split.files:
            vector = split.bucket.vectors.get(file.file_name)
            stored = FilePart(meta=file, directory=split.bucket.directory, vector=vector)
            if vector:
                rows = find_rows(self._files, [(0, stored)], self._columns, {0: predicate})
                yield rows.filter(predicate).select(self._columns)
                continue
            opened = open_run(self._files, [(0, stored)], self._columns, predicate=predicate)
            yield from (rows.select(self._columns) for rows in opened(self._portion_bytes))

    def read_places(self, split: Split, part: UnitPart) -> Iterator[pl.DataFrame]:
        """The same of a single file without keys, which is cut by the places of its rows."""
        file, vector = split.files[0], split.bucket.vectors.get(split.files[0].file_name)
        if part.of == 1 or vector:
            reader = SplitReader(self._schema, self._files, columns=self._columns)
            yield from rows_at(part.places(file.row_count), reader.read(split))
            return
        directory, places = split.bucket.directory, part.places(file.row_count)
        yield from self._files.read_portions(file, directory, self._columns, self._portion_bytes, places=places)

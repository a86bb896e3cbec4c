"""Files in which keys are looked up again and again, unpacked on the local disk.

Spec: the lookup files of Apache Paimon, option ``lookup.cache-max-disk-size``. To find a few rows in a Parquet file, all
values of its keys must be decoded; so a commit would cost more the more rows the table has.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import polars as pl

from storage_engine.errors import CorruptFile, FileMissing, StorageUnavailable
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.formats.base import DAMAGES
from storage_engine.store.formats.parquet import lazily
from storage_engine.store.local_rows import LocalRows
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.store.merge_frames import FilePart

LOOKS_BEFORE: Final = 1
"""How often a file is looked into before it is unpacked, which costs as much as two looks."""
_TROUBLE: tuple[type[BaseException], ...] = (StorageUnavailable, CorruptFile, FileMissing, OSError, *DAMAGES)


@dataclass(frozen=True, slots=True)
class _Unpacked:
    """A file's rows, mapped from one that has no name any more: it is gone with them. ``rows``: None, it was no use."""

    directory: str
    rows: pl.DataFrame | None
    nbytes: int


class LookupFiles:
    """The rows of files above level 0 of one table version, to be searched. Safe between threads."""

    def __init__(self, schema: TableSchema, files: DataFiles) -> None:
        self._files = files
        self._first_key = next(iter(schema.trimmed_primary_keys), "")
        self._dtypes = {**schema.polars_schema, SEQUENCE_NUMBER: pl.Int64(), VALUE_KIND: pl.Int8()}
        self._most_bytes = schema.table_options.lookup_cache_disk_size
        self._budget = MemoryBudget.of(schema)
        self._unpacked: OrderedDict[str, _Unpacked] = OrderedDict()
        self._bytes = 0
        self._looks: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    def rows(self, part: FilePart, *, few: bool) -> pl.DataFrame | None:
        """All rows of a file in key order, with the system columns; None where the file must be read.

        ``few``: few rows are wanted of it, so that it pays to unpack it if that is asked for again and again.
        """
        name = part.meta.file_name
        held = self._files.held(part.meta)
        if held is not None:
            return held
        with self._lock:
            known = self._unpacked.get(name)
            if known is None and few and self._is_due(part):
                known = self._unpack(part)
                self._unpacked[name] = known
                self._bytes += known.nbytes
            if known is None:
                return None
            self._unpacked.move_to_end(name)
            while self._bytes > self._most_bytes:
                self._drop(next(iter(self._unpacked)))
            return known.rows

    def retain(self, parts: Iterable[FilePart]) -> None:
        """Forget the files that are no longer among those of their buckets."""
        names: dict[str, set[str]] = {}
        for part in parts:
            names.setdefault(part.directory, set()).add(part.meta.file_name)
        with self._lock:
            for name, each in list(self._unpacked.items()):
                if name not in names.get(each.directory, {name}):
                    self._drop(name)
            for name, (directory, _) in list(self._looks.items()):
                if name not in names.get(directory, {name}):
                    del self._looks[name]

    def _is_due(self, part: FilePart) -> bool:
        """Whether the file is to be unpacked now. One that is no local Parquet must be read whole at every look."""
        if self._budget.bytes_of([part.meta]) > self._most_bytes:
            return False
        name = part.meta.file_name
        if self._files.plain_paths([(part.meta, part.directory)], ".parquet") is None:
            return True
        _, looks = self._looks.get(name, ("", 0))
        self._looks[name] = (part.directory, looks + 1)
        return looks >= LOOKS_BEFORE

    def _unpack(self, part: FilePart) -> _Unpacked:
        """Whatever is wrong with a file is told by who reads it then."""
        self._looks.pop(part.meta.file_name, None)
        try:
            rows = LocalRows().keep(self._stored(part))
        except _TROUBLE:
            return _Unpacked(part.directory, None, 0)
        is_whole = rows.height == part.meta.row_count and rows.schema == pl.Schema(self._dtypes)
        if not is_whole or not rows.get_column(self._first_key).is_sorted():
            return _Unpacked(part.directory, None, 0)
        return _Unpacked(part.directory, rows, int(rows.estimated_size()))

    def _stored(self, part: FilePart) -> pl.LazyFrame:
        columns = list(self._dtypes)
        paths = self._files.plain_paths([(part.meta, part.directory)], ".parquet")
        if paths:
            return lazily(paths[0], columns, None, self._dtypes)
        return self._files.read(part.meta, part.directory, columns).lazy()

    def _drop(self, name: str) -> None:
        self._bytes -= self._unpacked.pop(name).nbytes

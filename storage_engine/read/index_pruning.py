"""Leaves out files whose indexes say that no row of theirs can satisfy a predicate.

Spec: "File index" of Apache Paimon 1.3.1. An index speaks of the physical rows of a file, so it counts where a file is
read raw. What an index cannot decide (another operator, a column of another type, an index of an unknown kind) is not ruled
out.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
from pyroaring import BitMap

from storage_engine.codec.bitmap_index import BitmapIndex
from storage_engine.codec.bloom_filter import may_contain
from storage_engine.errors import CorruptFile
from storage_engine.kernel.equality import equality_of, operator_of
from storage_engine.kernel.fast_hash import fast_hashes, indexed_values
from storage_engine.spec.file_index_options import BITMAP, BLOOM_FILTER, FileIndexOptions
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import FLOAT_ROOTS
from storage_engine.store.file_io import FileIO
from storage_engine.store.schemas import SchemaStore
from storage_engine.store.stored_indexes import Indexes, read_indexes

Rows = BitMap | None
"""Rows that may satisfy a predicate; None if that is not known."""
_NONE: BitMap = BitMap()


class IndexPruner:
    """Decides by file indexes what a read can leave out."""

    def __init__(self, io: FileIO, schemas: SchemaStore, schema: TableSchema, predicate: pl.Expr | None) -> None:
        self._io = io
        self._schemas = schemas
        self._schema = schema
        enabled = predicate is not None and FileIndexOptions.of(schema.table_options).read
        self._predicate = predicate if enabled else None

    @property
    def is_active(self) -> bool:
        """Whether it rules out anything at all."""
        return self._predicate is not None

    def kept_files(self, files: Sequence[DataFileMeta], directory: str) -> list[DataFileMeta]:
        """Of files that are read raw, those that may hold rows the predicate allows. Raises CorruptFile, FileMissing."""
        if self._predicate is None:
            return list(files)
        return [file for file in files if not self._ruled_out(file, directory, self._predicate)]

    def _ruled_out(self, file: DataFileMeta, directory: str, predicate: pl.Expr) -> bool:
        if not (file.embedded_index or file.extra_files):
            return False
        found = read_indexes(self._io, file, directory)
        if found is None:
            return False
        try:
            rows = _Rows(self._schema, self._by_own_names(file, found.indexes)).of(predicate)
        except ValueError as cause:
            raise CorruptFile(f"{found.path}: {cause}") from cause
        return rows is not None and not rows

    def _by_own_names(self, file: DataFileMeta, indexes: Indexes) -> Indexes:
        """Indexes by the names that their columns have now; none of a column that had another type."""
        if file.schema_id == self._schema.id:
            return indexes
        then = {field.id: field for field in self._schemas.get(file.schema_id).fields}
        same = ((field, then.get(field.id)) for field in self._schema.fields)
        return {
            field.name: indexes[old.name]
            for field, old in same
            if old is not None
            and old.name in indexes
            and old.type.with_nullable(True) == field.type.with_nullable(True)
        }


class _Rows:
    """What the indexes of one file say of a predicate."""

    def __init__(self, schema: TableSchema, indexes: Indexes) -> None:
        self._schema = schema
        self._indexes = indexes

    def of(self, predicate: pl.Expr) -> Rows:
        """The rows that may satisfy it. Raises ValueError for a damaged index."""
        operator = operator_of(predicate)
        if operator in ("And", "LogicalAnd", "Or", "LogicalOr"):
            left, right = (self.of(part) for part in predicate.meta.pop())
            if "And" in operator:
                return right if left is None else left if right is None else left & right
            return None if left is None or right is None else left | right
        if operator in ("Eq", "IsIn"):
            return self._among(predicate)
        if operator == "IsNull":
            (part,) = predicate.meta.pop()
            return self._nulls(part.meta.output_name()) if part.meta.is_column() else None
        return None

    def _among(self, predicate: pl.Expr) -> Rows:
        found = equality_of(predicate, self._schema.polars_schema)
        if found is None or found[0] not in self._indexes:
            return None
        name, wanted = found
        if self._schema.by_name[name].type.root in FLOAT_ROOTS and _is_odd(wanted):
            return None
        return self._having(name, wanted)

    def _having(self, name: str, wanted: pl.Series) -> Rows:
        data_type, found = self._schema.by_name[name].type, self._indexes[name]
        if BITMAP in found:
            values = indexed_values(wanted, data_type)
            index = self._bitmap(found[BITMAP], values.dtype)
            return _NONE if index is None else BitMap.union(_NONE, *(index.having(value) for value in values))
        if BLOOM_FILTER not in found:
            return None
        body = found[BLOOM_FILTER]
        is_there = body is not None and bool(may_contain(body, fast_hashes(wanted, data_type)).any())
        return None if is_there else _NONE

    def _nulls(self, name: str) -> Rows:
        found = self._indexes.get(name, {})
        if found.get(BITMAP) is None:
            return None
        values = indexed_values(pl.Series([], dtype=self._schema.polars_schema[name]), self._schema.by_name[name].type)
        index = self._bitmap(found[BITMAP], values.dtype)
        return None if index is None else index.having(None)

    def _bitmap(self, body: bytes | None, dtype: pl.DataType) -> BitmapIndex | None:
        return None if body is None else BitmapIndex.read(body, dtype)


def _is_odd(values: pl.Series) -> bool:
    """Whether floats among them are equal to others of other bits."""
    return bool((values.is_nan() | (values == 0)).any())

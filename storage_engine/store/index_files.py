"""Index files of a table: deletion vectors (and hash indexes) as immutable files beside the data."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from storage_engine.codec.deletion_vector import DeletionVector, write_deletion_vectors
from storage_engine.codec.hash_index import encode_hash_index
from storage_engine.spec.manifest import DELETION_VECTORS_INDEX, HASH_INDEX, IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.table_layout import TableLayout
from storage_engine.store.table_store import TableStore


class IndexFiles:
    """Writes index files of one table; a bucket is given by its serialized partition and number."""

    def __init__(self, store: TableStore, schema: TableSchema) -> None:
        self._store = store
        self._layout = TableLayout(store.paths, schema)
        self._bitmap64 = schema.table_options.deletion_vectors_bitmap64
        self._writer_id = str(uuid.uuid4())
        self._numbers = itertools.count()  # buckets are compacted by several threads

    def write_deletion_vectors(self, bucket: tuple[bytes, int], vectors: Mapping[str, DeletionVector]) -> IndexFileMeta:
        """Write the vectors of one bucket as one file; an empty mapping gives the empty file that replaces an old
        one.
        """
        data, ranges = write_deletion_vectors(vectors, bitmap64=self._bitmap64)
        return IndexFileMeta(
            index_type=DELETION_VECTORS_INDEX,
            file_name=self._written(bucket, data),
            file_size=len(data),
            row_count=len(ranges),
            deletion_vector_ranges=tuple(ranges),
        )

    def write_hashes(self, bucket: tuple[bytes, int], hashes: npt.NDArray[np.int32]) -> IndexFileMeta:
        """Write the key hashes of one dynamic bucket."""
        data = encode_hash_index(hashes)
        name = self._written(bucket, data)
        return IndexFileMeta(index_type=HASH_INDEX, file_name=name, file_size=len(data), row_count=len(hashes))

    def path_of(self, bucket: tuple[bytes, int], index_file: IndexFileMeta) -> str:
        """Where an index file of a bucket lies."""
        return self._layout.index_file(*bucket, index_file)

    def remove(self, bucket: tuple[bytes, int], index_file: IndexFileMeta) -> None:
        """Remove an index file that nothing refers to."""
        self._store.io.delete(self.path_of(bucket, index_file))

    def _written(self, bucket: tuple[bytes, int], data: bytes) -> str:
        name = f"index-{self._writer_id}-{next(self._numbers)}"
        self._store.io.write_new(self._layout.new_index_file(*bucket, name), data)
        return name

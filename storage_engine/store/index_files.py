"""Index files of a table: deletion vectors (and hash indexes) as immutable files beside the data."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping

from storage_engine.codec.deletion_vector import DeletionVector, write_deletion_vectors
from storage_engine.spec.manifest import DELETION_VECTORS_INDEX, IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.table_store import TableStore


class IndexFiles:
    """Writes index files of one table."""

    def __init__(self, store: TableStore, schema: TableSchema) -> None:
        self._store = store
        self._bitmap64 = schema.table_options.deletion_vectors_bitmap64
        self._writer_id = str(uuid.uuid4())
        self._numbers = itertools.count()  # buckets are compacted by several threads

    def write_deletion_vectors(self, vectors: Mapping[str, DeletionVector]) -> IndexFileMeta:
        """Write the vectors of one bucket as one file; an empty mapping gives the empty file that replaces an old
        one.
        """
        data, ranges = write_deletion_vectors(vectors, bitmap64=self._bitmap64)
        name = f"index-{self._writer_id}-{next(self._numbers)}"
        path = self._store.paths.index_file(name)
        self._store.io.write_new(path, data)
        return IndexFileMeta(
            index_type=DELETION_VECTORS_INDEX,
            file_name=name,
            file_size=len(data),
            row_count=len(ranges),
            deletion_vector_ranges=tuple(ranges),
        )

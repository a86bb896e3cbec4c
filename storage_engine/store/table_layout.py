"""Where the files of a table's buckets lie.

Spec: Paimon's file layout with the options ``data-file.path-directory`` and ``index-file-in-data-file-dir``, which a table
keeps for life.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.spec.manifest import IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.paths import TablePaths, bucket_directory, partition_path


class TableLayout:
    """Directories of buckets, and the paths of index files, of one table version."""

    def __init__(self, paths: TablePaths, schema: TableSchema) -> None:
        self._paths = paths
        self._options = schema.table_options
        self._names = schema.partition_keys
        self.partition_types = schema.types_of(schema.partition_keys)

    def partition_values(self, partition: bytes) -> tuple[object, ...]:
        """A serialized partition as Python values."""
        return deserialize_row(self.partition_types, partition)

    def partition_directory(self, values: Sequence[object]) -> str:
        """Where the buckets of a partition lie."""
        path = partition_path(self.partition_types, self._names, values, self._options)
        below = "/".join(part for part in (self._options.data_file_directory, path) if part)
        return self._paths.partition_directory(below)

    def bucket_directory(self, partition: bytes, bucket: int) -> str:
        """Where the data files of a bucket of a serialized partition lie."""
        return bucket_directory(self.partition_directory(self.partition_values(partition)), bucket)

    def index_file(self, partition: bytes, bucket: int, file: IndexFileMeta) -> str:
        """Where an index file lies: beside the data, if the table keeps them so."""
        return file.external_path or self.new_index_file(partition, bucket, file.file_name)

    def new_index_file(self, partition: bytes, bucket: int, name: str) -> str:
        """Where a new index file goes."""
        if self._options.index_files_beside_data:
            return f"{self.bucket_directory(partition, bucket)}/{name}"
        return self._paths.index_file(name)

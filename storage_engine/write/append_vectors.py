"""Deletion vectors of append tables: which index files a change of vectors replaces, and by what.

Spec: "Deletion Vectors / Append Table" of Apache Paimon 1.3.1. Without buckets a partition has any number of index files, and
those are rewritten that hold a changed vector; a bucket of a bucketed table has one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from storage_engine.codec.deletion_vector import DeletionVector, encode_deletion_vector
from storage_engine.spec.manifest import DELETION_VECTORS_INDEX, IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import Bucket


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorChange:
    """Index files written and replaced."""

    added: tuple[IndexFileMeta, ...] = ()
    removed: tuple[IndexFileMeta, ...] = ()


class AppendVectors:
    """Writes the deletion vectors of an append table."""

    def __init__(self, schema: TableSchema, index_files: IndexFiles) -> None:
        self._index_files = index_files
        self._file_per_bucket = schema.table_options.bucket > 0
        self._bitmap64 = schema.table_options.deletion_vectors_bitmap64
        self._target_size = schema.table_options.deletion_vector_file_size

    def changed(
        self, bucket: Bucket, vectors: Mapping[str, DeletionVector], *, gone: Collection[str] = ()
    ) -> VectorChange:
        """Give data files of a bucket new vectors, and take those of the files that are ``gone``."""
        touched = {*gone, *vectors}
        listed = [file for file in bucket.index_files if file.index_type == DELETION_VECTORS_INDEX]
        removed = [file for file in listed if self._file_per_bucket or not touched.isdisjoint(vector_names(file))]
        if not vectors and not any(not touched.isdisjoint(vector_names(file)) for file in removed):
            return VectorChange()
        kept = {name: bucket.vectors[name] for file in removed for name in vector_names(file) if name not in touched}
        parts = self._rolled({**kept, **vectors})
        added = tuple(self._index_files.write_deletion_vectors(bucket.key, part) for part in parts)
        return VectorChange(added=added, removed=tuple(removed))

    def _rolled(self, vectors: Mapping[str, DeletionVector]) -> Iterator[dict[str, DeletionVector]]:
        part: dict[str, DeletionVector] = {}
        size = 0
        for name, vector in vectors.items():
            part[name] = vector
            size += len(encode_deletion_vector(vector, bitmap64=self._bitmap64))
            if size >= self._target_size and not self._file_per_bucket:
                yield part
                part, size = {}, 0
        if part:
            yield part


def vector_names(file: IndexFileMeta) -> frozenset[str]:
    """The data files that an index file has vectors of."""
    return frozenset(part.data_file_name for part in file.deletion_vector_ranges or ())

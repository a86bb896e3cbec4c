"""``SchemaStore``: the versions of one branch's definition. Spec: "Schema" of Apache Paimon."""

from __future__ import annotations

import threading

from storage_engine.errors import CorruptFile
from storage_engine.spec.schema import TableSchema
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths, schema_ids_in


class SchemaStore:
    """Schema files of one branch.

    They never change, except that a fast-forward replaces later ones. Thread-safe.
    """

    def __init__(self, io: FileIO, paths: TablePaths) -> None:
        self._io = io
        self._paths = paths
        self._cache: dict[int, TableSchema] = {}
        self._contents: dict[int, bytes] = {}
        self._lock = threading.Lock()

    def latest(self) -> TableSchema | None:
        """The newest schema, read anew. Also finds out about fast-forwards done by others.

        None if the branch has none, which means that there is no such table.
        """
        ids = self.ids()
        if not ids:
            self.forget()
            return None
        schema = self._read(ids[-1])
        with self._lock:
            highest = self._cache.get(max(self._cache, default=schema.id), schema)
        same = schema if highest.id >= schema.id else self._read(highest.id)
        is_replaced = same != highest
        with self._lock:
            if is_replaced:
                self._cache.clear()
            self._cache[schema.id] = schema
        return schema

    def get(self, schema_id: int) -> TableSchema:
        """One schema. Raises FileMissing or CorruptFile."""
        with self._lock:
            cached = self._cache.get(schema_id)
        if cached is not None:
            return cached
        schema = self._read(schema_id)
        with self._lock:
            return self._cache.setdefault(schema_id, schema)

    def ids(self) -> list[int]:
        """Ids of all schemas, ascending, from a listing."""
        return schema_ids_in(self._io.list_names(self._paths.schemas))

    def try_create(self, schema: TableSchema) -> bool:
        """Create a schema's file: False if somebody else has taken the id.

        Raises CommitStateUnknown, Unsupported.
        """
        if not self._io.create_exclusive(self._paths.schema_file(schema.id), schema.to_json().encode()):
            return False
        with self._lock:
            self._cache[schema.id] = schema
        return True

    def write(self, schema: TableSchema) -> None:
        """Write or replace a schema's file (a new branch and a fast-forward do)."""
        self._io.overwrite(self._paths.schema_file(schema.id), schema.to_json().encode())
        with self._lock:
            self._cache[schema.id] = schema

    def delete(self, schema_id: int) -> None:
        """Remove a schema's file (a fast-forward does)."""
        with self._lock:
            self._cache.pop(schema_id, None)
        self._io.delete(self._paths.schema_file(schema_id))

    def forget(self) -> None:
        """Drop the cache."""
        with self._lock:
            self._cache.clear()

    def _read(self, schema_id: int) -> TableSchema:
        path = self._paths.schema_file(schema_id)
        content = self._io.read_bytes(path)
        with self._lock:
            known = self._cache.get(schema_id)
            if known is not None and self._contents.get(schema_id) == content:
                return known
        schema = TableSchema.from_json(content, path=path)
        with self._lock:
            self._contents[schema_id] = content
        if schema.id != schema_id:
            raise CorruptFile(f"{path}: holds the schema {schema.id}, not {schema_id}")
        return schema

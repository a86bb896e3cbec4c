"""Live data files that are not there any more.

Spec: ``remove_unexisting_files`` of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from storage_engine.maintenance.references import data_file_paths
from storage_engine.spec.manifest import ManifestEntry
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.live_files import LiveFiles
from storage_engine.store.table_store import TableStore


def missing_files(store: TableStore, schema: TableSchema, snapshot: Snapshot | None) -> dict[str, ManifestEntry]:
    """Live entries of a snapshot whose data file is missing, by its path. Each directory is listed once."""
    listed: dict[str, set[str]] = {}
    found: dict[str, ManifestEntry] = {}
    for entry in LiveFiles(store, schema).entries(snapshot):
        for path in data_file_paths(store, schema, entry)[:1]:
            directory, _, name = path.rpartition("/")
            if directory not in listed:
                listed[directory] = set(store.io.list_names(directory))
            if name not in listed[directory]:
                found[path] = entry
    return found

"""Success files: what says to jobs that wait for it that a tag or a partition is complete.

Spec: ``SuccessFile`` of Apache Paimon 1.3.1: when it was made first, and last.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress

from storage_engine.errors import FileMissing
from storage_engine.store.table_store import TableStore

_NAME = "_SUCCESS"


def mark_done(store: TableStore, partition_path: str) -> None:
    """Mark a partition, ``v_date=2024-01-01``, as complete."""
    write_mark(store, f"{store.paths.root}/{partition_path}/{_NAME}")


def write_mark(store: TableStore, path: str) -> None:
    """Write a success file, or make it newer."""
    now = time.time_ns() // 1_000_000
    created = now
    with suppress(FileMissing, ValueError, KeyError, TypeError):
        created = int(json.loads(store.io.read_bytes(path))["creationTime"])
    store.io.overwrite(path, json.dumps({"creationTime": created, "modificationTime": now}).encode())

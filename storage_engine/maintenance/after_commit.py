"""What follows every commit: consumers, snapshots, changelogs and tags that have outlived their time, and tags that are due.

Spec: the maintenance of Apache Paimon's committer. The commit before it stands, so trouble is logged and not raised.
"""

from __future__ import annotations

import logging
import time

from storage_engine.errors import (
    AlreadyExists,
    CorruptFile,
    FileMissing,
    SnapshotNotFound,
    StorageUnavailable,
    TagNotFound,
)
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.automatic_tags import create_due_tags
from storage_engine.maintenance.expire import expire_snapshots
from storage_engine.maintenance.expire_changelogs import expire_changelogs
from storage_engine.maintenance.tags import expire_tags
from storage_engine.spec.schema import TableSchema
from storage_engine.store.table_store import TableStore

_log = logging.getLogger(__name__)
_TAG_CHECK_S = 60.0
_TROUBLE = (StorageUnavailable, FileMissing, SnapshotNotFound, CorruptFile, TagNotFound, AlreadyExists)


class AfterCommit:
    """The upkeep of one table; remembers when it last looked at what needs no look at every commit."""

    def __init__(self, store: TableStore) -> None:
        self._store = store
        self._tags_checked_at: float | None = None
        self._partitions_checked_at: float | None = None

    def run(self, schema: TableSchema, *, now_millis: int | None = None) -> int:
        """Look after the table by its options; returns how many snapshots went."""
        options = LifecycleOptions.parse(schema.options)
        expired = 0
        try:
            if options.consumer_expiration_ms is not None:
                expire_consumers(self._store, options.consumer_expiration_ms, now_millis=now_millis)
            expired = expire_snapshots(self._store, schema, now_millis=now_millis)
            if expired and options.changelog_outlives(schema.table_options):
                expire_changelogs(self._store, schema, now_millis=now_millis)
            create_due_tags(self._store, schema)
            if self._is_due_for_tags():
                expire_tags(self._store, schema)
        except _TROUBLE as cause:
            _log.warning("upkeep of %s was not completed: %s", self._store.paths.branch_root, cause)
        return expired

    def is_due_for_partitions(self, options: LifecycleOptions) -> bool:
        """Whether partitions are to be looked at: at the first commit, and when the check interval is over."""
        if options.partition_expiration_ms is None:
            return False
        last, now = self._partitions_checked_at, time.monotonic()
        if last is not None and (now - last) * 1000 < options.partition_check_interval_ms:
            return False
        self._partitions_checked_at = now
        return True

    def _is_due_for_tags(self) -> bool:
        last, now = self._tags_checked_at, time.monotonic()
        if last is not None and now - last < _TAG_CHECK_S:
            return False
        self._tags_checked_at = now
        return True


def expire_consumers(store: TableStore, older_than_ms: int, *, now_millis: int | None = None) -> list[str]:
    """Remove the consumers that have not moved for so long; returns their names."""
    now = int(time.time() * 1000) if now_millis is None else now_millis
    gone = []
    for name, moved_millis in store.consumers.moved().items():
        if moved_millis < now - older_than_ms:
            store.consumers.delete(name)
            gone.append(name)
    return gone

"""The compaction that follows a commit of new files: at once, or beside the caller's further work.

Spec: options ``write-only``, ``lookup-wait`` and ``full-compaction.delta-commits`` of Apache Paimon 1.3.1.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import polars as pl

from storage_engine.errors import CommitUnfinished, StorageEngineError
from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, Snapshot
from storage_engine.store.live_files import BucketKey
from storage_engine.store.paths import POSTPONE_BUCKET
from storage_engine.write.requests import Committer

_log = logging.getLogger(__name__)


class Compact(Protocol):
    """``TableWrite.compact``."""

    def __call__(
        self,
        keys: Sequence[BucketKey] | None = None,
        *,
        full: bool = False,
        committer: Committer | None = None,
        frames: Mapping[str, pl.DataFrame] | None = None,
        awaited: frozenset[str] | None = None,
    ) -> Snapshot | None:
        """Compact buckets."""


class CommitCompaction:
    """Compacts after the commits of one writer."""

    def __init__(self, compact: Compact, schema: TableSchema, *, table: str) -> None:
        self._compact = compact
        self._options = schema.table_options
        self._needs_lookup = bool(schema.primary_keys) and self._options.needs_lookup
        self._has_levels = bool(schema.primary_keys)
        self._table = table
        self._pool: ThreadPoolExecutor | None = None
        self._running: Future[Snapshot | None] | None = None
        self._left: set[BucketKey] = set()

    def run(
        self,
        snapshot: Snapshot,
        committer: Committer,
        messages: Sequence[CommitMessage],
        frames: Mapping[str, pl.DataFrame],
    ) -> Snapshot:
        """Compact what a commit asks for; gives the snapshot that shows it, or the commit's own if nobody waits for it.

        Raises CommitUnfinished if it fails where reads wait for it.
        """
        if self._options.write_only or not messages or self._options.bucket == POSTPONE_BUCKET:
            return snapshot
        keys = [(message.partition, message.bucket) for message in messages]
        new = frozenset(file.file_name for message in messages for file in message.new_files)
        if self._is_full(committer):
            return self._now(snapshot, committer, None, frames, None)
        if self._needs_lookup and not self._options.lookup_wait and not _is_batch(committer):
            self._start(keys, committer)
            return snapshot
        return self._now(snapshot, committer, keys, frames, new)

    def wait(self) -> None:
        """Wait for a compaction that runs beside; its failure is told in the log, and left to the next one."""
        running, self._running = self._running, None
        if running is not None:
            try:
                running.result()
            except StorageEngineError as cause:
                _log.warning("table %s: a compaction failed (%s); a later one does its work", self._table, cause)

    def _is_full(self, committer: Committer) -> bool:
        """Whether everything is compacted with this commit: each so many identifiers, and with one that bears none."""
        each = self._options.full_compaction_delta_commits
        identifier = committer.identifier
        if not self._has_levels or each is None:
            return False
        return identifier is None or _is_batch(committer) or identifier % each == 0

    def _now(
        self,
        snapshot: Snapshot,
        committer: Committer,
        keys: Sequence[BucketKey] | None,
        frames: Mapping[str, pl.DataFrame],
        awaited: frozenset[str] | None,
    ) -> Snapshot:
        self.wait()
        try:
            done = self._compact(keys, full=keys is None, committer=committer, frames=frames, awaited=awaited)
        except StorageEngineError as cause:
            return self._failed(snapshot, cause)
        return done or snapshot

    def _start(self, keys: Sequence[BucketKey], committer: Committer) -> None:
        """Compact beside the caller, unless the one before is not done: then with the next commit."""
        self._left.update(keys)
        if self._running is not None and not self._running.done():
            return
        self.wait()
        chosen, self._left = sorted(self._left), set()
        self._pool = self._pool or ThreadPoolExecutor(1, thread_name_prefix="compaction")
        self._running = self._pool.submit(self._compact, chosen, committer=committer)

    def _failed(self, snapshot: Snapshot, cause: StorageEngineError) -> Snapshot:
        """A commit stands although its compaction failed; that is an error only where reads wait for the compaction."""
        what = f"table {self._table}: snapshot {snapshot.id} is committed, but its compaction failed ({cause})"
        if self._needs_lookup:
            raise CommitUnfinished(
                f"{what}; call settle(), or repeat the write with the same user and identifier"
            ) from cause
        _log.warning("%s; a later write compacts", what)
        return snapshot


def _is_batch(committer: Committer) -> bool:
    """Whether a commit bears no identifier: Paimon's batch jobs wait for their compaction, whatever the options say."""
    return committer.identifier in (None, BATCH_COMMIT_IDENTIFIER)

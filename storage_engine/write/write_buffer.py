"""Rows of one commit that come frame by frame: what the memory budget cannot hold is flushed as files that nobody sees yet.

Spec: "Write path" of Apache Paimon 1.3.1, option ``write-buffer-size``. Nothing is visible before the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import polars as pl

from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.data_files import DataFiles
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import BucketKey, LiveFiles
from storage_engine.store.memory_budget import MemoryBudget
from storage_engine.write.compactor import Compactor
from storage_engine.write.level0_writer import Flush, WrittenBucket


class WriteBuffer:
    """Holds conformed frames on top of ``base``, and writes them when there are enough.

    A context: if the block fails, what was written is removed. REQUIRES: nothing is committed in the block.
    """

    def __init__(
        self,
        schema: TableSchema,
        flush: Flush,
        files: DataFiles,
        index_files: IndexFiles,
        base: Snapshot | None,
    ) -> None:
        self._write = flush
        self._files = files
        self._index_files = index_files
        self._limit = MemoryBudget.of(schema).held_bytes
        self.base = base
        self._held: list[pl.DataFrame] = []
        self._held_bytes = 0
        self._written: list[WrittenBucket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.discard()

    def add(self, frame: pl.DataFrame) -> None:
        """Take a conformed frame."""
        self._held.append(frame)
        self._held_bytes += int(frame.estimated_size())
        if self._held_bytes >= self._limit:
            self.flush()

    def held(self) -> pl.DataFrame:
        """The rows that are not written yet. REQUIRES: a frame was added."""
        return pl.concat(self._held)

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            frame = self.held()
            self._held, self._held_bytes = [], 0
            self._written += [replace(part, frames={}) for part in self._write(frame, self._written)]

    def finish(self) -> list[CommitMessage]:
        """Write the rest; returns one message for each bucket."""
        self.flush()
        found: dict[BucketKey, CommitMessage] = {}
        for part in self._written:
            mine, key = part.message, part.bucket.key
            before = found.get(key)
            if before is not None:
                for replaced in before.new_index_files if mine.new_index_files else ():
                    self._index_files.remove(key, replaced)
                mine = replace(
                    mine,
                    new_files=(*before.new_files, *mine.new_files),
                    changelog_files=(*before.changelog_files, *mine.changelog_files),
                    new_index_files=mine.new_index_files or before.new_index_files,
                )
            found[key] = mine
        return list(found.values())

    def messages(self) -> list[CommitMessage] | None:
        """What ``finish`` gives, if anything had to be written so far; else the rows are held."""
        return self.finish() if self._written else None

    def discard(self) -> None:
        """Remove what was written: it will not be committed."""
        for part in self._written:
            for file in (*part.message.new_files, *part.message.changelog_files):
                self._files.remove(file, part.bucket.directory)
            for index_file in part.message.new_index_files:
                self._index_files.remove(part.bucket.key, index_file)


def at_the_top(
    messages: Sequence[CommitMessage], live: LiveFiles, files: DataFiles, compactor: Compactor
) -> list[CommitMessage]:
    """Runs of level 0 that nobody has seen yet, merged into one of the top level, which takes their place."""
    buckets = [
        replace(live.empty_bucket(message.partition, message.bucket, message.total_buckets), files=message.new_files)
        for message in messages
    ]
    merged = {(done.partition, done.bucket): done.compact_after for done in compactor.compact(buckets, full=True)}
    found = []
    for message, bucket in zip(messages, buckets, strict=True):
        kept = {file.file_name for file in merged[bucket.key]}
        for file in message.new_files:
            if file.file_name not in kept:
                files.remove(file, bucket.directory)
        found.append(replace(message, new_files=merged[bucket.key]))
    return found

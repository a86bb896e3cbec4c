"""Who commits, and what the messages of many buckets ask to be committed in their name."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from storage_engine.spec.manifest import CommitMessage, DataFileMeta, FileKind, IndexManifestEntry, ManifestEntry
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, CommitKind
from storage_engine.write.commit import CommitRequest, adds, index_entries


@dataclass(frozen=True, slots=True, kw_only=True)
class Committer:
    """Who commits: user and identifier (its own uuid and the batch identifier if none is given), and what it
    expects.
    """

    user: str | None = None
    identifier: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    expected_offsets: Mapping[str, int | None] = field(default_factory=dict)
    watermark: int | None = None

    def named(self) -> Committer:
        """The same with a user: a uuid if there was none."""
        return self if self.user else replace(self, user=str(uuid.uuid4()))

    def request(self, kind: CommitKind, *, delta: Sequence[ManifestEntry]) -> CommitRequest:
        """A commit request in this committer's name. REQUIRES: named()."""
        return CommitRequest(
            kind=kind,
            user=self.user or "",
            identifier=BATCH_COMMIT_IDENTIFIER if self.identifier is None else self.identifier,
            properties=self.properties,
            delta=tuple(delta),
            watermark=self.watermark,
        )


def _added(message: CommitMessage, files: Sequence[DataFileMeta]) -> list[ManifestEntry]:
    return adds(message.partition, message.bucket, message.total_buckets, files)


def append_request(committer: Committer, messages: Sequence[CommitMessage]) -> CommitRequest:
    """The commit of new files."""
    request = committer.request(
        CommitKind.APPEND, delta=[entry for message in messages for entry in _added(message, message.new_files)]
    )
    index = [
        entry
        for message in messages
        for entry in index_entries(message.partition, message.bucket, added=message.new_index_files, removed=())
    ]
    changelog = [entry for message in messages for entry in _added(message, message.changelog_files)]
    return replace(request, changelog=tuple(changelog), index=tuple(index), expected_offsets=committer.expected_offsets)


def compaction_request(committer: Committer, messages: Sequence[CommitMessage]) -> CommitRequest:
    """The commit of what compactions have made of files."""
    delta: list[ManifestEntry] = []
    changelog: list[ManifestEntry] = []
    index: list[IndexManifestEntry] = []
    for message in messages:
        delta += [entry.as_delete() for entry in _added(message, message.compact_before)]
        delta += _added(message, message.compact_after)
        changelog += _added(message, message.compact_changelog_files)
        index += index_entries(
            message.partition,
            message.bucket,
            added=message.compact_new_index_files,
            removed=message.compact_deleted_index_files,
        )
    request = committer.request(CommitKind.COMPACT, delta=delta)
    return replace(request, changelog=tuple(changelog), index=tuple(index), check_conflicts=True)


def written_names(messages: Iterable[CommitMessage]) -> list[str]:
    """The names of the files that messages bring."""
    found: list[str] = []
    for message in messages:
        files = (*message.new_files, *message.changelog_files, *message.compact_after, *message.compact_changelog_files)
        found += [name for file in files for name in (file.file_name, *file.extra_files)]
        found += [file.file_name for file in (*message.new_index_files, *message.compact_new_index_files)]
    return found


def removed_index(
    entries: Iterable[IndexManifestEntry], partitions: Collection[bytes] | None
) -> list[IndexManifestEntry]:
    """What takes the index files of some partitions (None: all) out of the table."""
    return [
        replace(entry, kind=FileKind.DELETE) for entry in entries if partitions is None or entry.partition in partitions
    ]

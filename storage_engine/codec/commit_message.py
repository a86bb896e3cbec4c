"""Commit messages as bytes, so that one process can commit what another has written.

A JSON document; the files in it are encoded as in manifests, which is what they become.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any

from storage_engine.codec.manifest_avro import (
    decode_index_manifest,
    decode_manifest,
    encode_index_manifest,
    encode_manifest,
)
from storage_engine.errors import CorruptFile
from storage_engine.spec.manifest import (
    CommitMessage,
    DataFileMeta,
    FileKind,
    IndexFileMeta,
    IndexManifestEntry,
    ManifestEntry,
)

_VERSION = 1
_WHAT = "commit message"
_FILES = ("new_files", "changelog_files", "compact_before", "compact_after", "compact_changelog_files")
_INDEXES = (
    "new_index_files",
    "deleted_index_files",
    "compact_new_index_files",
    "compact_deleted_index_files",
)


def encode_commit_message(message: CommitMessage) -> bytes:
    """A message as bytes."""
    document: dict[str, Any] = {
        "version": _VERSION,
        "partition": b64encode(message.partition).decode(),
        "bucket": message.bucket,
        "totalBuckets": message.total_buckets,
    }
    document |= {name: b64encode(_files(message, getattr(message, name))).decode() for name in _FILES}
    document |= {name: b64encode(_indexes(message, getattr(message, name))).decode() for name in _INDEXES}
    return json.dumps(document).encode()


def decode_commit_message(data: bytes) -> CommitMessage:
    """The message of some bytes. Raises CorruptFile."""
    try:
        document = json.loads(data)
        if document["version"] != _VERSION:
            raise CorruptFile(f"{_WHAT}: version {document['version']} is not known; expected {_VERSION}")
        return CommitMessage(
            partition=b64decode(document["partition"]),
            bucket=int(document["bucket"]),
            total_buckets=int(document["totalBuckets"]),
            new_files=_files_of(document, "new_files"),
            changelog_files=_files_of(document, "changelog_files"),
            compact_before=_files_of(document, "compact_before"),
            compact_after=_files_of(document, "compact_after"),
            compact_changelog_files=_files_of(document, "compact_changelog_files"),
            new_index_files=_indexes_of(document, "new_index_files"),
            deleted_index_files=_indexes_of(document, "deleted_index_files"),
            compact_new_index_files=_indexes_of(document, "compact_new_index_files"),
            compact_deleted_index_files=_indexes_of(document, "compact_deleted_index_files"),
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise CorruptFile(f"{_WHAT}: damaged, or of another kind: {cause}") from cause


def _files(message: CommitMessage, files: Sequence[DataFileMeta]) -> bytes:
    entries = [
        ManifestEntry(
            kind=FileKind.ADD,
            partition=message.partition,
            bucket=message.bucket,
            total_buckets=message.total_buckets,
            file=file,
        )
        for file in files
    ]
    return encode_manifest(entries, "null")


def _files_of(document: Mapping[str, Any], name: str) -> tuple[DataFileMeta, ...]:
    return tuple(entry.file for entry in decode_manifest(b64decode(document[name]), path=_WHAT))


def _indexes_of(document: Mapping[str, Any], name: str) -> tuple[IndexFileMeta, ...]:
    return tuple(entry.index_file for entry in decode_index_manifest(b64decode(document[name]), path=_WHAT))


def _indexes(message: CommitMessage, files: Sequence[IndexFileMeta]) -> bytes:
    entries = [
        IndexManifestEntry(kind=FileKind.ADD, partition=message.partition, bucket=message.bucket, index_file=file)
        for file in files
    ]
    return encode_index_manifest(entries, "null")

"""``snapshot/snapshot-N``: one committed state of a table; and tags, which are copies of one.

Spec: "Snapshot" of Apache Paimon; JSON version 3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from storage_engine.errors import CorruptFile

SNAPSHOT_VERSION = 3
BATCH_COMMIT_IDENTIFIER = 9_223_372_036_854_775_807


class CommitKind(StrEnum):
    """What a commit did."""

    APPEND = "APPEND"  # new rows; no live file was removed
    COMPACT = "COMPACT"  # files were rewritten; the rows that a reader sees are the same
    OVERWRITE = "OVERWRITE"  # live files were removed and replaced
    ANALYZE = "ANALYZE"  # statistics alone


KEEPING_ROWS = frozenset({CommitKind.COMPACT, CommitKind.ANALYZE})
"""The kinds of commits after which a reader sees the same rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One committed state of a table.

    Record counts are physical rows of files, not merged rows. ``time_millis`` is the writer's clock, epoch
    milliseconds.
    """

    id: int
    schema_id: int
    base_manifest_list: str
    delta_manifest_list: str
    commit_user: str
    commit_identifier: int
    commit_kind: CommitKind
    time_millis: int
    total_record_count: int
    delta_record_count: int
    base_manifest_list_size: int | None = None
    delta_manifest_list_size: int | None = None
    changelog_manifest_list: str | None = None
    changelog_manifest_list_size: int | None = None
    index_manifest: str | None = None
    changelog_record_count: int = 0
    watermark: int | None = None
    statistics: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of the snapshot file, fields in Paimon's order."""
        document: dict[str, Any] = {
            "version": SNAPSHOT_VERSION,
            "id": self.id,
            "schemaId": self.schema_id,
            "baseManifestList": self.base_manifest_list,
            "baseManifestListSize": self.base_manifest_list_size,
            "deltaManifestList": self.delta_manifest_list,
            "deltaManifestListSize": self.delta_manifest_list_size,
            "changelogManifestList": self.changelog_manifest_list,
            "changelogManifestListSize": self.changelog_manifest_list_size,
            "indexManifest": self.index_manifest,
            "commitUser": self.commit_user,
            "commitIdentifier": self.commit_identifier,
            "commitKind": self.commit_kind.value,
            "timeMillis": self.time_millis,
            "logOffsets": {},
            "totalRecordCount": self.total_record_count,
            "deltaRecordCount": self.delta_record_count,
            "changelogRecordCount": self.changelog_record_count,
            "watermark": self.watermark,
            "statistics": self.statistics,
            "properties": dict(self.properties) or None,
            "nextRowId": 0,
        }
        kept = {key: value for key, value in document.items() if value is not None or key == "changelogManifestList"}
        return json.dumps(kept, indent=2, ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes, *, path: str, expected_id: int | None = None) -> Snapshot:
        """Read a snapshot or tag file; ``path`` is for the message. Raises CorruptFile."""
        try:
            document = json.loads(text)
            version = int(document.get("version", 1))
            if version > SNAPSHOT_VERSION:
                raise CorruptFile(f"{path}: snapshot version {version} is not known (at most {SNAPSHOT_VERSION})")
            if expected_id is not None and document["id"] != expected_id:
                raise CorruptFile(f"{path}: holds the snapshot {document['id']}, not {expected_id}")
            return _from_document(document)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise CorruptFile(f"{path}: not a snapshot: {cause!r}") from cause


def _from_document(document: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=int(document["id"]),
        schema_id=int(document["schemaId"]),
        base_manifest_list=str(document["baseManifestList"]),
        base_manifest_list_size=document.get("baseManifestListSize"),
        delta_manifest_list=str(document["deltaManifestList"]),
        delta_manifest_list_size=document.get("deltaManifestListSize"),
        changelog_manifest_list=document.get("changelogManifestList"),
        changelog_manifest_list_size=document.get("changelogManifestListSize"),
        index_manifest=document.get("indexManifest"),
        commit_user=str(document["commitUser"]),
        commit_identifier=int(document["commitIdentifier"]),
        commit_kind=CommitKind(document["commitKind"]),
        time_millis=int(document["timeMillis"]),
        total_record_count=int(document.get("totalRecordCount") or 0),
        delta_record_count=int(document.get("deltaRecordCount") or 0),
        changelog_record_count=int(document.get("changelogRecordCount") or 0),
        watermark=document.get("watermark"),
        statistics=document.get("statistics"),
        properties=dict(document.get("properties") or {}),
    )

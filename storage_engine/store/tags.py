"""``TagStore``: named copies of snapshots, which keep what they name from being expired.

Spec: "Tag" of Apache Paimon. A tag's file is the snapshot's JSON; only a tag that has a time to live carries
two more fields, since older readers do not know them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from storage_engine.errors import AlreadyExists, CorruptFile, FileMissing, TagNotFound
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths, check_given_name, tag_names_in

_CREATE_TIME, _TIME_RETAINED = "tagCreateTime", "tagTimeRetained"
_DATE_PARTS, _TIME_PARTS = 5, 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A named snapshot.

    ``create_time`` is the writer's local wall clock; it and ``time_retained_ms`` come together.
    """

    name: str
    snapshot: Snapshot
    create_time: datetime | None = None
    time_retained_ms: int | None = None

    def is_expired(self, now: datetime) -> bool:
        """Whether its time to live is over; ``now`` is local wall-clock time."""
        if self.create_time is None or self.time_retained_ms is None:
            return False
        return self.create_time + timedelta(milliseconds=self.time_retained_ms) < now

    def to_json(self) -> str:
        """The text of the tag file."""
        if self.create_time is None or self.time_retained_ms is None:
            return self.snapshot.to_json()
        document: dict[str, Any] = json.loads(self.snapshot.to_json())
        at = self.create_time
        parts = [at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond * 1000]
        document |= {_CREATE_TIME: parts, _TIME_RETAINED: self.time_retained_ms / 1000}
        return json.dumps(document, indent=2, ensure_ascii=False)

    @staticmethod
    def from_json(text: bytes, *, name: str, path: str) -> Tag:
        """Read a tag file. Raises CorruptFile."""
        snapshot = Snapshot.from_json(text, path=path)
        try:
            document = json.loads(text)
            return Tag(
                name=name,
                snapshot=snapshot,
                create_time=_local_time(document.get(_CREATE_TIME)),
                time_retained_ms=_duration_ms(document.get(_TIME_RETAINED)),
            )
        except (ValueError, TypeError, OverflowError) as cause:
            raise CorruptFile(f"{path}: not a tag: {cause}") from cause


def _local_time(parts: Any) -> datetime | None:
    if parts is None:
        return None
    if not isinstance(parts, list) or not _DATE_PARTS <= len(parts) <= _TIME_PARTS:
        raise ValueError(f"{_CREATE_TIME} is {parts!r}, expected a list such as [2026, 11, 23, 9, 20, 10, 599128526]")
    year, month, day, hour, minute, second, nano = (*parts, 0, 0)[:_TIME_PARTS]
    return datetime(year, month, day, hour, minute, second, nano // 1000)  # noqa: DTZ001 - local wall clock


def _duration_ms(seconds: Any) -> int | None:
    return None if seconds is None else round(float(seconds) * 1000)


class TagStore:
    """Tag files of one branch."""

    def __init__(self, io: FileIO, paths: TablePaths) -> None:
        self._io = io
        self._paths = paths

    def create(
        self,
        name: str,
        snapshot: Snapshot,
        *,
        create_time: datetime | None = None,
        time_retained_ms: int | None = None,
    ) -> Tag:
        """Name a snapshot. Raises AlreadyExists, or InvalidInput for a name that cannot be a file name."""
        check_given_name(name, "tag")
        tag = Tag(name=name, snapshot=snapshot, create_time=create_time, time_retained_ms=time_retained_ms)
        path = self._paths.tag_file(name)
        if self._io.exists(path) or not self._io.create_exclusive(path, tag.to_json().encode()):
            raise AlreadyExists(f"{path}: the tag {name!r} exists; delete it first or choose another name")
        return tag

    def get(self, name: str) -> Snapshot:
        """The snapshot that a tag names. Raises TagNotFound or CorruptFile."""
        return self.tag(name).snapshot

    def tag(self, name: str) -> Tag:
        """One tag. Raises TagNotFound or CorruptFile."""
        check_given_name(name, "tag")
        path = self._paths.tag_file(name)
        try:
            return Tag.from_json(self._io.read_bytes(path), name=name, path=path)
        except FileMissing as cause:
            known = ", ".join(self.names()) or "none"
            raise TagNotFound(f"{path}: there is no tag {name!r}; tags: {known}") from cause

    def exists(self, name: str) -> bool:
        """Whether there is such a tag."""
        check_given_name(name, "tag")
        return self._io.exists(self._paths.tag_file(name))

    def names(self) -> list[str]:
        """Names of all tags, sorted."""
        return tag_names_in(self._io.list_names(self._paths.tags))

    def write(self, tag: Tag) -> None:
        """Write or replace a tag's file as it is (a fast-forward does)."""
        check_given_name(tag.name, "tag")
        self._io.overwrite(self._paths.tag_file(tag.name), tag.to_json().encode())

    def list(self) -> list[Tag]:
        """All tags, by snapshot id and name. A tag that is deleted meanwhile is left out."""
        tags = []
        for name in self.names():
            try:
                tags.append(self.tag(name))
            except TagNotFound:
                continue
        return sorted(tags, key=lambda tag: (tag.snapshot.id, tag.name))

    def delete(self, name: str) -> None:
        """Remove a tag's file; what only it protected is the caller's care. Raises TagNotFound."""
        if not self.exists(name):
            raise TagNotFound(f"{self._paths.tags}: there is no tag {name!r}")
        self._io.delete(self._paths.tag_file(name))

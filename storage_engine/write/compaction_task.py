"""What a compaction does to one bucket: the pick, the groups of files that are rewritten together, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from storage_engine.codec.deletion_vector import DeletionVector
from storage_engine.lsm.levels import Levels
from storage_engine.lsm.universal_compaction import CompactUnit
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.store.live_files import Bucket
from storage_engine.store.merge_frames import FILE_NAME, GROUP, POSITION, FilePart


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionTask:
    """A bucket that is due for compaction. Can be pickled, and run in any process."""

    partition: bytes
    bucket: int
    full: bool = False


@dataclass(slots=True, kw_only=True)
class Task:
    """One pick of one bucket, and what has come of it so far."""

    bucket: Bucket
    unit: CompactUnit
    levels: Levels
    vectors: dict[str, DeletionVector]
    vectors_changed: bool = False
    before: list[DataFileMeta] = field(default_factory=list)
    after: list[DataFileMeta] = field(default_factory=list)
    changelog: list[DataFileMeta] = field(default_factory=list)

    @property
    def to_top(self) -> bool:
        """Whether it writes to the top level."""
        return self.unit.output_level == self.levels.max_level

    def upgrade(self, file: DataFileMeta) -> None:
        """Move a file to the output level by metadata alone."""
        if file.level != self.unit.output_level:
            self.before.append(file)
            self.after.append(file.upgraded(self.unit.output_level))

    def replace(self, files: Sequence[DataFileMeta], rewritten: Sequence[DataFileMeta]) -> None:
        """Note that files were merged into others; deletion vectors of theirs are done with."""
        self.before += files
        self.after += rewritten
        for file in files:
            self.vectors_changed |= self.vectors.pop(file.file_name, None) is not None

    def parts(self, files: Sequence[DataFileMeta], number: int = 0) -> list[FilePart]:
        """Files of the bucket to be read, for the group of that number."""
        return [
            FilePart(meta=file, directory=self.bucket.directory, vector=self.vectors.get(file.file_name), group=number)
            for file in files
        ]

    def beyond(self) -> list[DataFileMeta]:
        """The files above the output level, which keys of level 0 are looked up in."""
        unit = {file.file_name for file in self.unit.files}
        return [
            file for file in self.bucket.files if file.level > self.unit.output_level and file.file_name not in unit
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Files of one task that are rewritten together."""

    task: Task
    files: tuple[DataFileMeta, ...]


def mask(groups: Sequence[Group], places: pl.DataFrame) -> None:
    """Hide found rows (``_GROUP``, ``file_name``, ``_POSITION``) behind deletion vectors: newer ones replace them."""
    found: Mapping[tuple[object, ...], pl.DataFrame] = places.partition_by([GROUP, FILE_NAME], as_dict=True)
    for (number, name), rows in found.items():
        task = groups[int(str(number))].task
        old = task.vectors.get(str(name), DeletionVector())
        task.vectors[str(name)] = old.with_positions(rows[POSITION].to_numpy())
        task.vectors_changed = True

"""Rows that do not fit into memory at once: parted by number on the local disk, and read back part by part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from storage_engine.errors import StorageUnavailable


class Spill:
    """Frames by the number of their part. Make one with ``spilling``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._counts: dict[int, int] = {}

    def add(self, part: int, rows: pl.DataFrame) -> None:
        """Put rows after those that the part has. Raises StorageUnavailable if the disk is full."""
        number = self._counts.get(part, 0)
        self._counts[part] = number + 1
        try:
            rows.write_ipc(self._path(part, number), compression="lz4")
        except OSError as cause:
            raise StorageUnavailable(f"{self._directory}: rows cannot be spilled: {cause}") from cause

    def parts(self) -> Iterator[pl.DataFrame]:
        """The rows of each part, in order of their numbers. What was read is gone from the disk."""
        for part in sorted(self._counts):
            paths = [self._path(part, number) for number in range(self._counts[part])]
            yield pl.concat([pl.read_ipc(path) for path in paths], rechunk=True)
            for path in paths:
                path.unlink()

    def _path(self, part: int, number: int) -> Path:
        return self._directory / f"{part}-{number}.arrow"


@contextmanager
def spilling() -> Iterator[Spill]:
    """A spill in a new directory of the system's temporary one, which goes with it."""
    with tempfile.TemporaryDirectory(prefix="paimon-spill-") as directory:
        yield Spill(Path(directory))

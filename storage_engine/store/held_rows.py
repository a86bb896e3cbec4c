"""Rows of small files that were just written: the next commit's compaction reads them, and files never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import numpy as np
import polars as pl

SMALL_ROWS: Final = 10_000
"""Rows of a file that is kept. To read a larger one costs little beside what is done with its rows."""
MOST_BYTES: Final = 8 << 20


class HeldRows:
    """Frames by file name, up to a number of bytes; the least recently used leave first. Safe between threads."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._frames: OrderedDict[str, pl.DataFrame] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, name: str, frame: pl.DataFrame) -> None:
        """Keep the rows of a new file if they are few. They are copied: a slice would keep all of what it was cut from."""
        if frame.height > SMALL_ROWS:
            return
        copied = frame[np.arange(frame.height)]
        with self._lock:
            self._frames[name] = copied
            self._bytes += int(copied.estimated_size())
            while self._bytes > self._most_bytes:
                _, dropped = self._frames.popitem(last=False)
                self._bytes -= int(dropped.estimated_size())

    def get(self, name: str) -> pl.DataFrame | None:
        """The rows of a file, if they are kept."""
        with self._lock:
            found = self._frames.get(name)
            if found is not None:
                self._frames.move_to_end(name)
            return found

    def forget(self, name: str) -> None:
        """A file that was removed."""
        with self._lock:
            dropped = self._frames.pop(name, None)
            self._bytes -= 0 if dropped is None else int(dropped.estimated_size())

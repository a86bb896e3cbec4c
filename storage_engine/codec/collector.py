"""Very many small values at once, without Python's search for cycles.

Each of the collector's runs looks at every value there is: for the entries of a hundred thousand files, which hold no
cycles, that took longer than making them.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_PAUSES: list[bool] = []


@contextmanager
def collector_paused() -> Iterator[None]:
    """While values are made: the collector pauses, and goes on if it was on. Safe between threads, and may be nested."""
    with _LOCK:
        _PAUSES.append(gc.isenabled() if not _PAUSES else _PAUSES[0])
        gc.disable()
    try:
        yield
    finally:
        with _LOCK:
            was_enabled = _PAUSES.pop()
            if not _PAUSES and was_enabled:
                gc.enable()

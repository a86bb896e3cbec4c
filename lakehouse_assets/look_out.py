"""A sensor that looks out: a tick that finds nothing stays a while, so that a change is seen within milliseconds.

Dagster's daemon ticks every five seconds, whatever a sensor asks for. A tick that ends just before the next one begins
leaves hardly a moment unwatched. It holds a thread of the code server meanwhile, so only some ticks do at a time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

LOOK_OUT_S: Final = 4.2
"""How long a tick stays: the daemon begins its ticks every five seconds."""
POLL_S: Final = 0.1
_OTHERS: Final = 3
"""Threads of the code server that are left to Dagster's pages and to ticks that find something."""

T = TypeVar("T")


def _threads() -> int:
    """How many threads the code server has: Dagster's variable, or what Python takes."""
    told = os.environ.get("DAGSTER_GRPC_MAX_WORKERS", "")
    return int(told) if told.isdigit() else min(32, (os.cpu_count() or 1) + 4)


_places: Final = threading.BoundedSemaphore(max(1, _threads() - _OTHERS))


def look_out(look: Callable[[], T], *, seconds: float, poll_s: float = POLL_S) -> T:
    """What ``look`` finds, as soon as it finds something; what it found last when ``seconds`` are over.

    ``look`` is asked at least once, every ``poll_s`` seconds, and must change nothing: the code server may be ended
    meanwhile. If too many look out already, it is asked once.
    """
    found = look()
    if found or seconds <= 0 or not _places.acquire(blocking=False):
        return found
    try:
        give_up = time.monotonic() + seconds
        while not found and time.monotonic() < give_up:
            time.sleep(poll_s)
            found = look()
    finally:
        _places.release()
    return found

"""Writers of one machine take turns, so that none of them is overtaken again and again.

Only a courtesy: what keeps two commits apart is the exclusive creation of a snapshot's file. The turn is an advisory
lock of the directory itself, so no file is left behind, and the system takes it from a process that dies.
"""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LONGEST_WAIT_S = 5.0
_LOOK_S = 0.002
_HELD = threading.local()


@contextmanager
def turn(directory: str | None) -> Iterator[None]:
    """Wait until nobody else of this machine works at a local directory, or for five seconds.

    Whoever stops in the middle of its turn holds nobody up for longer, and nobody waits for itself. None (not a local
    directory), one that is not there and file systems without such locks: no wait.
    """
    held = _HELD.__dict__
    descriptor = None if directory is None or directory in held else _opened(directory)
    if directory is None or descriptor is None:
        yield
        return
    try:
        _wait(descriptor)
        held[directory] = descriptor
        yield
    finally:
        held.pop(directory, None)
        os.close(descriptor)  # ends the turn


def _opened(directory: str) -> int | None:
    with suppress(OSError):
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return None


def _wait(descriptor: int) -> None:
    deadline = time.monotonic() + _LONGEST_WAIT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOOK_S * (0.5 + random.random()))  # noqa: S311 - jitter, not a secret
        except OSError:
            return
        else:
            return

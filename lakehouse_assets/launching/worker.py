"""Which process works on a run, so that any process of the same machine can tell whether it is still there."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

WORKER_TAG: Final = ".dagster/lakehouse_worker"
"""Tag of a run: its worker. Dagster's pages hide tags that begin like this one."""
_STATE, _STARTED = 0, 19
"""Places in ``/proc/<id>/stat`` after the command's name."""
_DEAD: Final = ("Z", "X")


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A process: its machine, its id, and when it began (in ticks since the machine did; "" where that is not told).

    No clock is asked, and an id that is given again to another process does not deceive.
    """

    host: str
    process: int
    begun: str

    @classmethod
    def current(cls) -> Self:
        """The process that asks."""
        return cls(host=socket.gethostname(), process=os.getpid(), begun=_begun(os.getpid()) or "")

    @classmethod
    def parse(cls, text: str | None) -> Self | None:
        """The worker of a tag's value, None for one that is none."""
        host, _, rest = (text or "").rpartition("/")[0].rpartition("/")
        begun = (text or "").rpartition("/")[2]
        return cls(host=host, process=int(rest), begun=begun) if host and rest.isdigit() else None

    def __str__(self) -> str:
        return f"{self.host}/{self.process}/{self.begun}"

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it is still there. REQUIRES ``is_here``."""
        if self.begun:
            return _begun(self.process) == self.begun
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        return True

    def interrupt(self) -> bool:
        """End it as Ctrl-C does; whether it was there."""
        if self.is_here and self.is_alive:
            with suppress(ProcessLookupError):
                os.kill(self.process, signal.SIGINT)
                return True
        return False


def _begun(process: int) -> str | None:
    """When a living process began; None if there is none, or the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[_STATE] in _DEAD else fields[_STARTED]

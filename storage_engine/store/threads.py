"""Work on several files at once, by threads that stay: starting new ones for every commit costs more than small files do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

_HELPERS = 8
"""They mostly wait for a disk or a network; Polars' own threads do the computing."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Helpers:
    """The threads of this process, started when they are first needed."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew: a forked process has none of its parent's threads."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def pool(self) -> ThreadPoolExecutor:
        """The threads."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_HELPERS, thread_name_prefix="files")
            return self._pool


_HELPING = _Helpers()
os.register_at_fork(after_in_child=_HELPING.forget)


def side_by_side(work: Callable[[_Item], _Result], items: Sequence[_Item], *, threads: int) -> list[_Result]:
    """``work`` of each item, in their order, by so many threads, one of which is the caller's.

    Raises the first error, when all that was begun has ended. Work may do so with its own parts in turn: a caller waits only
    for what is being done, and does the rest itself.
    """
    count = min(threads, len(items))
    if count <= 1:
        return [work(item) for item in items]
    results: dict[int, _Result] = {}
    todo = iter(range(len(items)))

    def share() -> None:
        for number in todo:
            results[number] = work(items[number])

    helpers = [_HELPING.pool().submit(share) for _ in range(count - 1)]
    try:
        share()
    finally:
        begun = [helper for helper in helpers if not helper.cancel()]
        wait(begun)
    for helper in begun:
        helper.result()
    return [results[number] for number in range(len(items))]

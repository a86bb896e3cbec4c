"""``bucket-shuffle`` over processes: the keys of a batch go to the workers of their buckets, which hold these and no others.

A worker only reads the dimension and answers, so who commits is not its concern, and one that dies is started again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Final

import polars as pl

from storage_engine.errors import InvalidInput, StorageUnavailable
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.lookup.bucket_shuffle import Share, check_shuffle
from storage_engine.lookup.strategy import CacheBounds
from storage_engine.table import Table

MODULE: Final = "storage_engine.lookup.shuffle_worker"
ATTEMPTS: Final = 2
STOP_S: Final = 10.0
_WORKER: Final = "\x1fworker"
_LOST: Final = (EOFError, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The first message to a worker: what it holds. It answers each ``Question`` that follows."""

    table: Table
    on: Sequence[str]
    columns: Sequence[str]
    bounds: CacheBounds
    share: Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Distinct keys without nulls, all of the worker's buckets, and the snapshot to look at."""

    keys: pl.DataFrame
    snapshot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The rows of the keys, how many of these needed no read, and what the worker holds now."""

    rows: pl.DataFrame
    cached: int
    held_rows: int
    held_bytes: int
    on_disk: bool


class ShuffleWorkers:
    """Rows of the keys asked for, from worker processes that each hold their own buckets of a dimension.

    They start with the first batch that has keys for them, live from batch to batch, and end with this object.
    """

    def __init__(
        self, table: Table, *, on: Sequence[str], columns: Sequence[str], bounds: CacheBounds, workers: int
    ) -> None:
        """``bounds``: of all workers together. Raises InvalidInput if the key does not give the bucket."""
        check_shuffle(table, on)
        if table.store.io.is_of_this_process:
            raise InvalidInput(f"table {table.name} is in the memory of this process, where no worker can read it")
        self._table = table
        own = replace(bounds, memory_bytes=bounds.memory_bytes // workers)
        shares = [Share(worker=worker, workers=workers) for worker in range(workers)]
        self._workers = [
            _Worker(Opening(table=table, on=on, columns=columns, bounds=own, share=share)) for share in shares
        ]
        dtypes = table.schema.polars_schema
        self._empty = pl.DataFrame(schema={name: dtypes[name] for name in columns})

    @property
    def rows(self) -> int:
        """Number of rows held, by all workers."""
        return sum(self.rows_by_worker)

    @property
    def rows_by_worker(self) -> list[int]:
        """Number of rows that each worker holds."""
        return [0 if worker.last is None else worker.last.held_rows for worker in self._workers]

    @property
    def nbytes(self) -> int:
        """Bytes held, by all workers."""
        return sum(worker.last.held_bytes for worker in self._workers if worker.last is not None)

    @property
    def on_disk(self) -> bool:
        """Whether some of them lie in a local file."""
        return any(worker.last.on_disk for worker in self._workers if worker.last is not None)

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that run."""
        return [worker.process.pid for worker in self._workers if worker.process is not None]

    def find(self, keys: pl.DataFrame, snapshot: int) -> tuple[pl.DataFrame, int]:
        """The rows of some keys at a snapshot, all columns; and how many of the keys needed no read.

        Raises StorageUnavailable if a worker dies again and again, and what reading the dimension raises.
        """
        if keys.is_empty():
            return self._empty, 0
        worker = fixed_bucket(keys, self._table.schema) % len(self._workers)
        routed = keys.with_columns(worker.alias(_WORKER)).partition_by(_WORKER, as_dict=True, include_key=False)
        asked = [
            (self._workers[int(number)], Question(keys=part, snapshot=snapshot)) for (number,), part in routed.items()
        ]
        for each, question in asked:
            each.ask(question)
        answers = [each.answer(question) for each, question in asked]
        return pl.concat([self._empty, *(each.rows for each in answers)]), sum(each.cached for each in answers)


class _Worker:
    """A process and the connection to it."""

    def __init__(self, opening: Opening) -> None:
        self.last: Answer | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self._opening = opening
        self._connection: Connection | None = None
        self._ended: weakref.finalize[..., _Worker] | None = None

    def ask(self, question: Question) -> None:
        """Send a question; if that fails, it is asked again when the answer is wanted."""
        with suppress(*_LOST):
            self._running().send(question)

    def answer(self, question: Question) -> Answer:
        """The answer to the question that was asked. Raises StorageUnavailable, and what the worker raised."""
        for attempt in range(ATTEMPTS):
            try:
                if attempt:
                    self._running().send(question)
                found = self._running().recv()
            except _LOST:
                self._end()
                continue
            if isinstance(found, Exception):
                raise found
            assert isinstance(found, Answer)
            self.last = found
            return found
        share = self._opening.share
        raise StorageUnavailable(
            f"table {self._opening.table.name}: worker {share.worker} of {share.workers} of its bucket shuffle ended"
            f" {ATTEMPTS} times at one batch; it may lack memory: take more workers, or 'partial-cache'"
        )

    def _running(self) -> Connection:
        if self._connection is None:
            ours, theirs = Pipe()
            with theirs:
                process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", MODULE, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env=_environment(self._opening.share.workers),
                )
            self.process, self._connection = process, ours
            self._ended = weakref.finalize(self, _end, process, ours)
            ours.send(self._opening)
        return self._connection

    def _end(self) -> None:
        if self._ended is not None:
            self._ended()
        self.process = self._connection = self._ended = None


def _end(process: subprocess.Popen[bytes], connection: Connection) -> None:
    """A worker ends when nobody is there to ask it."""
    connection.close()
    try:
        process.wait(timeout=STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _environment(workers: int) -> dict[str, str]:
    """The workers share the cores, and find the modules that this process finds."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return {"POLARS_MAX_THREADS": str(threads), **os.environ, "PYTHONPATH": path}

"""Writer processes that are killed and started again, and what they were told."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any

import polars as pl

from storage_engine import Table
from storage_engine.errors import StorageEngineError
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, CommitKind
from storage_engine.store.file_io import FileIO
from storage_engine.store.table_store import TableStore

LONGEST_SILENCE_S = 120
Opener = Callable[..., tuple[FileIO, str]]
SCHEMA = {"id": pl.Int64, "v": pl.Int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a writer does: commit the identifiers up to ``commits`` to the table of this directory."""

    url: str
    writer: int
    commits: int
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    opener: Opener | None = None

    @property
    def user(self) -> str:
        return f"writer-{self.writer}"

    def open(self) -> Table:
        io, root = (self.opener or Doomed.from_url)(self.url, dict(self.storage_options))
        store = TableStore.open(io, root)
        schema = store.schemas.latest()
        assert schema is not None
        return Table("db.t", store, schema)


def batch(writer: int, identifier: int) -> pl.DataFrame:
    """Rows that add nothing up to what any other batch adds, and to zero in all: half a batch would show."""
    ids = [0, 1000 + writer, 2000 + identifier]
    return pl.DataFrame({"id": ids, "v": [identifier, 1, -1 - identifier]}, schema=SCHEMA)


def expected_rows(writers: int, commits: int) -> dict[int, int]:
    """All batches of all writers added up."""
    rows = {0: writers * commits * (commits + 1) // 2}
    rows |= {1000 + writer: commits for writer in range(writers)}
    return rows | {2000 + identifier: writers * (-1 - identifier) for identifier in range(1, commits + 1)}


class Doomed(FileIO):
    """Kills its process when ``commits_left`` snapshots are visible: nobody is told of the last one."""

    commits_left = -1

    def before_operation(self, operation: str, path: str) -> None:
        if operation == "write" and path.endswith("/LATEST"):
            self.commits_left -= 1
            if self.commits_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def work(job: Job, first: int, dies_after: int, told: Connection) -> None:
    """Commit one identifier after the other, and tell each when it is done: (identifier, was it new)."""
    table = job.open()
    if isinstance(table.store.io, Doomed):
        table.store.io.commits_left = dies_after
    try:
        for identifier in range(first, job.commits + 1):
            done = table.write(batch(job.writer, identifier), commit_user=job.user, commit_identifier=identifier)
            told.send((identifier, done is not None))
    except StorageEngineError as error:
        told.send(repr(error))


class Writers:
    """Runs writers beside each other, and starts each that ends early again, with what was not acknowledged.

    With ``kills``, each first dies with a commit that nobody was told of; then up to that many are killed at random
    moments, the first as soon as may be.
    """

    def __init__(self, jobs: list[Job], *, kills: int, seed: int) -> None:
        self._jobs = {job.writer: job for job in jobs}
        self._chance = random.Random(seed)
        self._kills = self._kills_left = kills
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, "s3fs"])
        self._running: dict[Connection, tuple[Job, Any]] = {}
        self.acknowledged: dict[int, list[int]] = {job.writer: [] for job in jobs}
        self._lives = dict.fromkeys(self._jobs, 0)
        self.killed = 0
        self.found_done = 0

    def run(self, beside: Callable[[], None]) -> None:
        """Until all is acknowledged; ``beside`` is called again and again. A writer that fails, fails here."""
        for job in self._jobs.values():
            self._start(job)
        try:
            while self._running:
                self._listen()
                beside()
        finally:
            for _, process in self._running.values():
                process.kill()
                process.join()

    def _start(self, job: Job) -> None:
        ours, theirs = self._context.Pipe(duplex=False)
        first = max(self.acknowledged[job.writer], default=0) + 1
        dies_after = 2 if self._kills_left and not self._lives[job.writer] else -1
        self._lives[job.writer] += 1
        process = self._context.Process(target=work, args=(job, first, dies_after, theirs))
        process.start()
        theirs.close()
        self._running[ours] = (job, process)

    def _listen(self) -> None:
        ready = wait(list(self._running), timeout=LONGEST_SILENCE_S)
        assert ready, f"no writer said anything for {LONGEST_SILENCE_S} seconds"
        for connection in ready:
            assert isinstance(connection, Connection)
            job, process = self._running[connection]
            try:
                message = connection.recv()
            except EOFError:
                self._ended(connection, job, process)
                continue
            assert isinstance(message, tuple), message
            identifier, was_new = message
            self.acknowledged[job.writer].append(identifier)
            self.found_done += not was_new
        self._perhaps_kill()

    def _perhaps_kill(self) -> None:
        all_died_once = min(self._lives.values()) > 1
        now = self._kills_left == self._kills or self._chance.random() < 0.3
        alive = [process for _, process in self._running.values() if process.is_alive()]
        if self._kills_left and all_died_once and alive and now:
            os.kill(self._chance.choice(alive).pid, signal.SIGKILL)
            self._kills_left -= 1

    def _ended(self, connection: Connection, job: Job, process: Any) -> None:
        process.join()
        del self._running[connection]
        connection.close()
        assert process.exitcode in (0, -signal.SIGKILL), f"{job.user} ended with {process.exitcode}"
        if process.exitcode != 0:
            self.killed += 1
            self._start(job)


def appended(table: Table) -> dict[tuple[str, int], int]:
    """How often each user and identifier stands in the snapshots."""
    found: dict[tuple[str, int], int] = {}
    for number in table.store.snapshots.ids():
        snapshot = table.store.snapshots.get(number)
        if snapshot.commit_kind is CommitKind.APPEND and snapshot.commit_identifier != BATCH_COMMIT_IDENTIFIER:
            pair = (snapshot.commit_user, snapshot.commit_identifier)
            found[pair] = found.get(pair, 0) + 1
    return found


def check_exactly_once(table: Table, writers: Writers, jobs: list[Job]) -> None:
    """Nothing that was acknowledged is lost, nothing stands there twice, and the figures are exact."""
    found = appended(table)
    acknowledged = {(job.user, number) for job in jobs for number in writers.acknowledged[job.writer]}
    assert acknowledged - found.keys() == set(), "acknowledged commits are lost"
    assert {pair: times for pair, times in found.items() if times > 1} == {}, "commits stand there twice"
    everything = {(job.user, number) for job in jobs for number in range(1, job.commits + 1)}
    assert found.keys() == everything
    ids = table.store.snapshots.ids()
    assert ids == list(range(1, len(ids) + 1)), "snapshots have a gap"
    rows = dict(table.scan().collect().iter_rows())
    assert rows == expected_rows(len(jobs), jobs[0].commits)


def balance(table: Table) -> int:
    """What all rows add up to: zero, if no batch is visible in part."""
    return int(table.scan().select(pl.col("v").sum()).collect().item() or 0)

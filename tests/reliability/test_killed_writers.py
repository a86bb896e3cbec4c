"""Processes that write one table at once and are killed again and again: every commit is there exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from storage_engine import Catalog
from storage_engine.maintenance import orphans
from storage_engine.store.file_io import FileIO
from tests.reliability.every_step import FAR_FUTURE
from tests.reliability.scale import SCALE, SEED
from tests.reliability.writers import SCHEMA, Job, Writers, balance, batch, check_exactly_once
from tests.storage_engine.maintenance.metadata_table import MetadataTable

SUM = {"bucket": "2", "merge-engine": "aggregation", "fields.v.aggregate-function": "sum"}


class Overwriting(FileIO):
    """Creates what stands there already: whoever comes between is lost."""

    between: Callable[[], object] | None = None

    def create_exclusive(self, path: str, data: bytes, *, needs: Iterable[str] = ()) -> bool:
        between, self.between = self.between, None
        if between:
            between()
        self.overwrite(path, data)
        return True


def jobs_on_new_table(warehouse: Path, options: Mapping[str, str], **job: Any) -> list[Job]:
    catalog = Catalog(str(warehouse))
    catalog.create_database("db")
    catalog.create_table("db.t", dict.fromkeys(SCHEMA, "BIGINT"), primary_key=["id"], options=options)
    writers = job.pop("writers")
    return [Job(url=f"{warehouse}/db.db/t", writer=number, **job) for number in range(writers)]


@pytest.mark.parametrize(
    ("writers", "commits", "options"),
    [(8, 25, {}), (8, 6, {"changelog-producer": "lookup"})],
    ids=["merge on read", "lookup changelog"],
)
def test_killed_writers_lose_nothing(writers: int, commits: int, options: dict[str, str], tmp_path: Path) -> None:
    jobs = jobs_on_new_table(tmp_path, {**SUM, **options}, writers=writers, commits=commits * SCALE)
    running = Writers(jobs, kills=writers * SCALE, seed=SEED)
    reader = jobs[0].open()
    balances: list[int] = []
    running.run(beside=lambda: balances.append(balance(reader)))
    table = jobs[0].open()
    table.settle()
    check_exactly_once(table, running, jobs)
    assert set(balances) == {0}, "a reader saw half a commit"
    assert running.killed > writers, "writers were killed at random moments too"
    assert running.found_done >= writers, "a commit that nobody was told of was found when it was tried again"
    if options:
        changes = table.changes(0).collect()
        assert changes.filter(changes["_row_kind"].is_in(["+I", "+U"]))["v"].sum() == (
            changes.filter(changes["_row_kind"].is_in(["-U", "-D"]))["v"].sum()
        )
    orphans.remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
    MetadataTable(table.store.io, table.store.paths.root).check_no_leftovers()
    check_exactly_once(jobs[0].open(), running, jobs)


def test_a_file_system_without_exclusive_creation_is_caught(tmp_path: Path) -> None:
    jobs = jobs_on_new_table(tmp_path, SUM, writers=2, commits=1, opener=Overwriting.from_url)
    tables = [job.open() for job in jobs]
    told = Writers(jobs, kills=0, seed=SEED)

    def commit(writer: int) -> None:
        tables[writer].write(batch(writer, 1), commit_user=jobs[writer].user, commit_identifier=1)
        told.acknowledged[writer].append(1)

    files = tables[0].store.io
    assert isinstance(files, Overwriting)
    files.between = lambda: commit(1)
    commit(0)
    with pytest.raises(AssertionError, match="acknowledged commits are lost"):
        check_exactly_once(jobs[0].open(), told, jobs)

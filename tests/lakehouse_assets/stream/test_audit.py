"""Write–audit–publish: what fails its checks stays on a branch, and a stream that goes on meanwhile loses nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from lakehouse_assets.checks import Check, Outcome, key_unique, stream_lag
from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.audit import audited_repair
from lakehouse_assets.stream.declaration import Repair, Stream
from lakehouse_assets.stream.errors import StreamBusy
from lakehouse_assets.stream.runner import run_batch
from storage_engine import Catalog

DDL = """
CREATE DATABASE IF NOT EXISTS db;
CREATE TABLE IF NOT EXISTS db.orders (day_ STRING, id STRING, amount BIGINT, PRIMARY KEY (day_, id) NOT ENFORCED)
    PARTITIONED BY (day_) WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE IF NOT EXISTS db.clean (day_ STRING, id STRING, amount BIGINT, PRIMARY KEY (day_, id) NOT ENFORCED)
    PARTITIONED BY (day_) WITH ('bucket' = '1', 'changelog-producer' = 'lookup');
CREATE TABLE IF NOT EXISTS db.days (day_ STRING, shop STRING, amount BIGINT, PRIMARY KEY (day_, shop) NOT ENFORCED)
    PARTITIONED BY (day_) WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.amount.aggregate-function' = 'sum');
"""
DAYS = ["2024-01-01", "2024-01-02"]
BY_DAY = Repair(column="day_", source=pl.col("day_"))
WRONG = Stream(
    source="db.orders",
    target="db.clean",
    transform=lambda rows: rows.with_columns(pl.col("amount") * 10),
    repair=BY_DAY,
)
RIGHT = replace(WRONG, transform=lambda rows: rows)
SUMS = Stream(
    source="db.clean",
    target="db.days",
    transform=lambda rows: rows.select("_row_kind", "day_", pl.lit("s").alias("shop"), "amount"),
    reads="changelog",
    repair=replace(BY_DAY, mode="overwrite"),
)


def at_most(limit: int, *, warning: bool = False) -> Check:
    def check(catalog: Catalog) -> Outcome:
        found = catalog.table("db.clean").scan().select(pl.col("amount").max()).collect().item()
        return Outcome(passed=found <= limit, description=f"the largest is {found}", warning=warning)

    return Check(description="No amount is too large.", run=check)


def put(catalog: Catalog, *rows: tuple[str, str, int]) -> None:
    catalog.table("db.orders").write(pl.DataFrame(rows, schema=["day_", "id", "amount"], orient="row"))


def clean(catalog: Catalog) -> list[tuple[Any, ...]]:
    return sorted(catalog.table("db.clean").scan().collect().rows())


def days(catalog: Catalog) -> list[tuple[Any, ...]]:
    return sorted(catalog.table("db.days").scan().select("day_", "amount").collect().rows())


@pytest.fixture
def wrong(catalog: Catalog) -> Catalog:
    """A target whose amounts are ten times what they should be, and one row that is none of the source's."""
    catalog.execute(DDL)
    put(catalog, (DAYS[0], "a", 1), (DAYS[0], "b", 2), (DAYS[1], "c", 3))
    run_batch(catalog, WRONG)
    catalog.table("db.clean").write(pl.DataFrame({"day_": [DAYS[0]], "id": ["x"], "amount": [7]}))
    run_batch(catalog, SUMS)
    return catalog


def test_it_is_published_in_one_commit_and_the_difference_shown(wrong: Catalog) -> None:
    before = wrong.table("db.clean").latest_snapshot()
    result = audited_repair(wrong, RIGHT, {"limit": at_most(30), "unique": key_unique("db.clean")}, DAYS[:1])
    assert (result.difference.added, result.difference.changed, result.difference.removed) == (0, 2, 1)
    shown = result.difference.sample.select("change", "id", "amount").rows()
    assert shown == [
        ("removed", "x", 7),
        ("before", "a", 10),
        ("before", "b", 20),
        ("after", "a", 1),
        ("after", "b", 2),
    ]
    assert clean(wrong) == [(DAYS[0], "a", 1), (DAYS[0], "b", 2), (DAYS[1], "c", 30)]
    assert before is not None
    assert result.repaired is not None
    users = wrong.table("db.clean").snapshots().filter(pl.col("snapshot_id") > before.id)["commit_user"]
    assert set(users) >= {RIGHT.repairer}
    assert wrong.table("db.clean").branches().is_empty()
    assert wrong.table("db.clean").tags().is_empty()
    run_batch(wrong, SUMS)
    assert days(wrong) == [(DAYS[0], 3), (DAYS[1], 30)]


def test_a_check_that_fails_leaves_main_as_it_was(wrong: Catalog) -> None:
    before, snapshot = clean(wrong), wrong.table("db.clean").latest_snapshot()
    result = audited_repair(wrong, RIGHT, {"limit": at_most(1), "said": at_most(1, warning=True)}, DAYS[:1])
    assert result.failed == ("limit",)
    assert result.repaired is None
    assert (clean(wrong), wrong.table("db.clean").latest_snapshot()) == (before, snapshot)
    kept = wrong.table("db.clean", branch=result.branch).scan().filter(pl.col("day_") == DAYS[0]).collect()
    assert sorted(kept["amount"].to_list()) == [1, 2]
    put(wrong, (DAYS[1], "d", 4))
    assert run_batch(wrong, RIGHT) is not None
    assert (DAYS[1], "d", 4) in clean(wrong)


def test_warnings_do_not_hold_it_back(wrong: Catalog) -> None:
    assert audited_repair(wrong, RIGHT, {"said": at_most(1, warning=True)}, DAYS).repaired is not None


def test_a_stream_that_commits_meanwhile_loses_nothing(wrong: Catalog) -> None:
    moves = iter([(DAYS[0], "b", 9), (DAYS[1], "d", 4)])

    def moving(catalog: Catalog) -> Outcome:
        row = next(moves, None)
        if row is not None:
            put(wrong, row)
            assert run_batch(wrong, RIGHT) is not None
        return Outcome(passed=True, description="the stream has moved")

    result = audited_repair(wrong, RIGHT, {"moving": Check(description="", run=moving)}, DAYS)
    assert result.attempts == 3
    assert clean(wrong) == [(DAYS[0], "a", 1), (DAYS[0], "b", 9), (DAYS[1], "c", 3), (DAYS[1], "d", 4)]
    assert wrong.table("db.clean").branches().is_empty()


def test_a_stream_that_never_rests_is_told(wrong: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.stream.audit.ATTEMPTS", 2)
    numbers = iter(range(100))

    def moving(catalog: Catalog) -> Outcome:
        put(wrong, (DAYS[1], f"n{next(numbers)}", 1))
        run_batch(wrong, RIGHT)
        return Outcome(passed=True, description="")

    with pytest.raises(StreamBusy, match="moved on"):
        audited_repair(wrong, RIGHT, {"moving": Check(description="", run=moving)}, DAYS)
    assert wrong.table("db.clean").branches().is_empty()


def test_whole_partitions_are_audited_and_replaced(wrong: Catalog) -> None:
    audited_repair(wrong, RIGHT, {}, DAYS)
    run_batch(wrong, SUMS)
    wrong.table("db.days").overwrite(pl.DataFrame({"day_": [DAYS[0]], "shop": ["s"], "amount": [99]}))
    result = audited_repair(wrong, SUMS, {"lag": stream_lag(SUMS), "unique": key_unique("db.days")}, DAYS[:1])
    assert result.difference.changed == 1
    assert days(wrong) == [(DAYS[0], 3), (DAYS[1], 3)]


def test_what_is_right_already_makes_no_branch_and_no_commit(wrong: Catalog) -> None:
    audited_repair(wrong, RIGHT, {}, DAYS)
    before = wrong.table("db.clean").latest_snapshot()
    result = audited_repair(wrong, RIGHT, {"limit": at_most(30)}, DAYS)
    assert not result.difference
    assert wrong.table("db.clean").latest_snapshot() == before


def test_the_asset_shows_the_difference_and_fails_with_its_checks(tmp_path: Any) -> None:
    project = Project(
        name="p",
        ddl=DDL,
        streams=(RIGHT,),
        partitions={"day_": dg.DailyPartitionsDefinition(start_date=DAYS[0], end_date="2024-01-04")},
        checks={"db.clean": {"limit": at_most(5)}},
    )
    lakehouse = LakehouseResource(warehouse=str(tmp_path), ddl=DDL)
    job = project.definitions(lakehouse).resolve_implicit_global_asset_job_def()
    put(lakehouse.catalog(), (DAYS[0], "a", 1), (DAYS[1], "b", 6))
    run_batch(lakehouse.catalog(), WRONG)
    audited = {"ops": {"db__clean": {"config": {"publish": "audited"}}}}
    with dg.DagsterInstance.ephemeral() as instance:

        def repaired(day: str) -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                asset_selection=[dg.AssetKey(["db", "clean"])],
                partition_key=day,
                run_config=audited,
                instance=instance,
                raise_on_error=False,
            )

        failed = repaired(DAYS[0])
        assert not failed.success
        failure = next(event for event in failed.all_events if event.is_step_failure)
        assert "limit failed on branch audit-" in str(failure.step_failure_data.user_failure_data.description)
        difference = failure.step_failure_data.user_failure_data.metadata["difference"].value
        assert "before" in difference
        assert clean(lakehouse.catalog()) == [(DAYS[0], "a", 10), (DAYS[1], "b", 60)]
        lakehouse.table("db.clean").write(pl.DataFrame({"day_": [DAYS[1]], "id": ["b"], "amount": [5]}))
        assert repaired(DAYS[0]).success
        assert clean(lakehouse.catalog()) == [(DAYS[0], "a", 1), (DAYS[1], "b", 5)]

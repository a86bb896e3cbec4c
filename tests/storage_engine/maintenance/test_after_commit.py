"""What commits do besides: tags made and expired, partitions and consumers expired; and watermarks."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import InvalidInput, InvalidOption, SnapshotNotFound
from storage_engine.lifecycle_options import LifecycleOptions
from storage_engine.maintenance.after_commit import AfterCommit
from storage_engine.maintenance.automatic_tags import create_due_tags
from storage_engine.maintenance.partition_expiry import expired_partitions, strptime_format

DAY = 86_400_000
START = int(datetime(2024, 1, 5, 10).timestamp() * 1000)


def table_with(tmp_path: Path, options: str, rest: str = "") -> Table:
    catalog = Catalog(str(tmp_path))
    catalog.execute(f"""CREATE TABLE t (dt STRING, id INT, PRIMARY KEY (dt, id) NOT ENFORCED) {rest}
        WITH ('bucket' = '1', 'changelog-producer' = 'none' {options})""")
    return catalog.table("t")


def write(table: Table, *days: str, watermark: int | datetime | None = None) -> None:
    frame = pl.DataFrame({"dt": list(days), "id": [1] * len(days)}, schema_overrides={"id": pl.Int32})
    table.write(frame, watermark=watermark)


def commit_at(table: Table, *millis: int) -> None:
    """A commit at each of these times, by the writer's clock."""
    for moment in millis:
        table._table_write(table.schema)._commit._clock_millis = lambda moment=moment: moment
        write(table, "x")


def names(table: Table) -> list[str]:
    return table.store.tags.names()


def test_a_tag_bears_the_day_that_has_ended(tmp_path: Path) -> None:
    table = table_with(tmp_path, ", 'tag.automatic-creation' = 'process-time', 'tag.num-retained-max' = '2'")
    commit_at(table, START, START + 3_600_000)
    assert names(table) == ["2024-01-04"]
    commit_at(table, START + DAY, START + DAY + 1, START + 2 * DAY)
    assert names(table) == ["2024-01-05", "2024-01-06"]
    assert [tag.snapshot.id for tag in table.store.tags.list()] == [3, 5]
    assert create_due_tags(table.store, table.schema) == []
    commit_at(table, START + 5 * DAY)
    assert names(table) == ["2024-01-06", "2024-01-09"], "days without a commit have no tag"


def test_hours_delays_completion_and_lives(tmp_path: Path) -> None:
    table = table_with(
        tmp_path,
        """, 'tag.automatic-creation' = 'process-time', 'tag.creation-period' = 'hourly', 'tag.creation-delay' = '10 m',
        'tag.period-formatter' = 'without_dashes', 'tag.automatic-completion' = 'true',
        'tag.default-time-retained' = '20 h', 'tag.create-success-file' = 'true'""",
    )
    commit_at(table, START, START + 3_600_000 + 60_000, START + 3_600_000 + 600_000, START + 4 * 3_600_000)
    assert names(table) == ["20240105 09", "20240105 10", "20240105 11"]
    assert [tag.snapshot.id for tag in table.store.tags.list()] == [1, 3, 4]
    assert {tag.time_retained_ms for tag in table.store.tags.list()} == {20 * 3_600_000}
    done = tmp_path / "default.db" / "t" / "tag" / "tag-success-file"
    assert sorted(path.name for path in done.iterdir()) == [f"{name}_SUCCESS" for name in names(table)]
    table.expire_tags(older_than=datetime.now() + timedelta(seconds=1))
    assert names(table) == [path.name for path in done.iterdir()] == []


def test_tags_follow_the_watermark(tmp_path: Path) -> None:
    table = table_with(
        tmp_path, ", 'tag.automatic-creation' = 'watermark', 'sink.watermark-time-zone' = 'Asia/Shanghai'"
    )
    write(table, "x")
    assert names(table) == []
    write(table, "x", watermark=datetime(2024, 1, 5, 17))
    assert names(table) == ["2024-01-05"], "it is the sixth there"
    write(table, "x", watermark=datetime(2024, 1, 1))
    assert table.snapshots()["watermark"].to_list() == [None, 1_704_474_000_000, 1_704_474_000_000]
    assert table.scan(watermark=datetime(2024, 1, 5)).collect().height == 1
    with pytest.raises(SnapshotNotFound, match="whose watermark has reached 2025"):
        table.scan(watermark=datetime(2025, 1, 1))


def test_the_last_commit_of_a_day_is_tagged(tmp_path: Path) -> None:
    table = table_with(tmp_path, ", 'tag.automatic-creation' = 'batch', 'tag.num-retained-max' = '1'")
    commit_at(table, START, START + 1)
    assert [(tag.name, tag.snapshot.id) for tag in table.store.tags.list()] == [("batch-write-2024-01-05", 2)]
    commit_at(table, START + DAY)
    assert names(table) == ["batch-write-2024-01-06"]


def test_tags_are_replaced_and_renamed(tmp_path: Path) -> None:
    table = table_with(tmp_path, "")
    commit_at(table, START, START + 1)
    table.create_tag("a", 1, time_retained_ms=1)
    table.replace_tag("a", time_retained_ms=DAY)
    table.rename_tag("a", "b")
    (tag,) = table.store.tags.list()
    assert (tag.name, tag.snapshot.id, tag.time_retained_ms) == ("b", 2, DAY)
    table.create_tag("gone", 1, time_retained_ms=1)
    time.sleep(0.01)
    assert table.expire_tags() == ["gone"]


def test_partitions_expire_by_what_their_values_spell(tmp_path: Path) -> None:
    table = table_with(tmp_path, ", 'partition.expiration-time' = '7 d', 'write-only' = 'true'", "PARTITIONED BY (dt)")
    today = datetime.now()
    days = [(today - timedelta(days=age)).strftime("%Y-%m-%d") for age in (0, 6, 8, 9)]
    write(table, *days, "not a date")
    expired = table.expire_partitions({"partition.expiration-max-num": "1"})
    assert expired == [{"dt": days[3]}]
    assert table.expire_partitions() == [{"dt": days[2]}]
    assert sorted(table.scan().collect()["dt"]) == sorted([*days[:2], "not a date"])
    with pytest.raises(InvalidInput, match=r"partition\.expiration-time"):
        table_with(tmp_path / "other", "").expire_partitions()


def test_a_commit_expires_partitions_once_in_an_interval(tmp_path: Path) -> None:
    table = table_with(tmp_path, ", 'partition.expiration-time' = '7 d'", "PARTITIONED BY (dt)")
    write(table, "2020-01-01", "2999-01-01")
    assert table.scan().collect()["dt"].to_list() == ["2999-01-01"]
    write(table, "2020-01-01")
    assert table.scan().collect().height == 2, "the interval is an hour"
    table.alter()
    Catalog(str(tmp_path)).execute("ALTER TABLE t SET ('partition.expiration-check-interval' = '0 s')")
    write(table, "2999-01-01")
    assert table.scan().collect()["dt"].to_list() == ["2999-01-01"]


@pytest.mark.parametrize(
    ("values", "options", "expired"),
    [
        (
            ("20240101", "07"),
            {"partition.timestamp-formatter": "yyyyMMdd HH", "partition.timestamp-pattern": "$dt $h"},
            True,
        ),
        (
            ("20240101", "09"),
            {"partition.timestamp-formatter": "yyyyMMdd HH", "partition.timestamp-pattern": "$dt $h"},
            False,
        ),
        (("2024-01-01", "x"), {"partition.timestamp-pattern": "$dt 07:00:00"}, True),
        (("2024-01-01", None), {"partition.timestamp-pattern": "$dt $h:00:00"}, False),
        ((None, "x"), {}, False),
    ],
)
def test_patterns_of_partitions(
    tmp_path: Path, values: tuple[str, str], options: dict[str, str], expired: bool
) -> None:
    catalog = Catalog(str(tmp_path))
    catalog.execute("CREATE TABLE t (dt STRING, h STRING, id INT) PARTITIONED BY (dt, h)")
    table = catalog.table("t")
    table.write(pl.DataFrame([(*values, 1)], schema=table.schema.polars_schema, orient="row"))
    lifecycle = LifecycleOptions.parse({"partition.expiration-time": "1 d", **options})
    now = datetime(2024, 1, 2, 8)
    found = expired_partitions(table.store, table.schema, lifecycle, table.latest_snapshot(), now=now)
    assert bool(found) == expired


def test_partitions_expire_by_their_last_write(tmp_path: Path) -> None:
    table = table_with(tmp_path, ", 'write-only' = 'true'", "PARTITIONED BY (dt)")
    write(table, "old")
    options = {"partition.expiration-time": "1 h", "partition.expiration-strategy": "update-time"}
    assert table.expire_partitions(options) == []
    lifecycle = LifecycleOptions.parse(options)
    later = datetime.now() + timedelta(hours=2)
    found = expired_partitions(table.store, table.schema, lifecycle, table.latest_snapshot(), now=later)
    assert found == [{"dt": "old"}]


def test_java_s_patterns_are_read() -> None:
    assert strptime_format("yyyy-MM-dd'T'HH:mm:ss.SSS''%") == "%Y-%m-%dT%H:%M:%S.%f'%%"
    for pattern in ("YYYY-ww", "yyyy 'open"):
        with pytest.raises(InvalidOption, match="timestamp-formatter"):
            strptime_format(pattern)


def test_consumers_hold_snapshots_until_they_expire(tmp_path: Path) -> None:
    table = table_with(
        tmp_path, ", 'snapshot.num-retained.max' = '1', 'snapshot.num-retained.min' = '1', 'write-only' = 'true'"
    )
    for _ in range(4):
        write(table, "x")
    table.set_consumer("job", 3)
    assert table.expire_snapshots() == 2
    assert table.changes(consumer="job").collect().height == 2
    table.set_consumer("job", 5)
    assert table.changes(consumer="job").collect().is_empty()
    file = Path(table.store.paths.consumer_file("job").removeprefix("file://"))
    os.utime(file, (time.time() - 7200, time.time() - 7200))
    lasting = table_options(table, {"consumer.expiration-time": "1 h"})
    AfterCommit(table.store).run(lasting)
    assert table.consumers().is_empty()
    with pytest.raises(InvalidInput, match="expected at least 1"):
        table.set_consumer("job", 0)


def table_options(table: Table, options: dict[str, str]):
    catalog = Catalog(table.store.paths.root.rpartition("/default.db")[0])
    pairs = ", ".join(f"'{key}' = '{value}'" for key, value in options.items())
    catalog.execute(f"ALTER TABLE t SET ({pairs})")
    return table.schema


def test_a_commit_of_nothing_is_made_if_asked_for(tmp_path: Path) -> None:
    table = table_with(tmp_path, "")
    write(table)
    assert table.latest_snapshot() is None
    table_options(table, {"commit.force-create-snapshot": "true"})
    write(table)
    assert table.snapshots().height == 1


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tag.automatic-creation", "sometimes"),
        ("tag.creation-period", "weekly"),
        ("tag.creation-delay", "2 d"),
        ("tag.num-retained-max", "0"),
        ("sink.watermark-time-zone", "Nowhere/Town"),
        ("partition.expiration-strategy", "custom"),
        ("partition.expiration-time", "soon"),
        ("changelog.num-retained.min", "-1"),
    ],
)
def test_bad_values_are_refused_when_a_table_is_made(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(InvalidOption, match=key.replace(".", r"\.")):
        table_with(tmp_path, f", '{key}' = '{value}'")

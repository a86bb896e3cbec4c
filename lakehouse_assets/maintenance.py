"""Upkeep as assets on schedules: compaction, expiry, removal of orphans. Their pages plot what they did."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import dagster as dg
import polars as pl

from lakehouse_assets.metadata import markdown_table
from lakehouse_assets.resources import LakehouseResource
from storage_engine import Table
from storage_engine.errors import CommitConflict

GROUP: Final = "maintenance"
TAG_PREFIX: Final = "day-"
TAGS_KEPT: Final = 7
Numbers = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """One kind of upkeep: what it does to a table, when, in words."""

    name: str
    description: str
    cron: str
    run: Callable[[Table], Numbers]


def _compact(table: Table) -> Numbers:
    before = table.files().height
    try:
        snapshot = table.compact(full=True)
    except CommitConflict:
        return {"files_before": before, "files_after": before, "conflicts": 1}
    after = before if snapshot is None else table.files().height
    return {"files_before": before, "files_after": after, "conflicts": 0}


def _expire(table: Table) -> Numbers:
    return {"snapshots_expired": table.expire_snapshots(), "snapshots_kept": table.snapshots().height}


def _remove_orphans(table: Table) -> Numbers:
    return {"orphans_removed": len(table.remove_orphan_files())}


def _tag(table: Table) -> Numbers:
    """A tag of the newest snapshot for today; those of more than TAGS_KEPT days ago go."""
    if table.latest_snapshot() is None:
        return {"tags_created": 0, "tags_deleted": 0}
    today = datetime.now(UTC).date()
    names = set(table.tags()["tag_name"].to_list())
    name, until = f"{TAG_PREFIX}{today.isoformat()}", f"{TAG_PREFIX}{(today - timedelta(days=TAGS_KEPT)).isoformat()}"
    created = name not in names
    if created:
        table.create_tag(name)
    old = [each for each in names if each.startswith(TAG_PREFIX) and each < until]
    for each in old:
        table.delete_tag(each)
    return {"tags_created": int(created), "tags_deleted": len(old)}


UPKEEP: Final = (
    Upkeep(
        name="compact",
        description="Rewrites each bucket into one sorted run, so that reads need no merge.",
        cron="0 3 * * *",
        run=_compact,
    ),
    Upkeep(
        name="expire",
        description="Expires snapshots by each table's options; streams that have not read them hold them back.",
        cron="30 3 * * *",
        run=_expire,
    ),
    Upkeep(
        name="orphans",
        description="Removes files that nothing refers to and that are older than a day: what killed writers left.",
        cron="0 4 * * 0",
        run=_remove_orphans,
    ),
    Upkeep(
        name="tags",
        description=f"Tags each table as it is at the end of a day, and keeps {TAGS_KEPT} such tags.",
        cron="55 23 * * *",
        run=_tag,
    ),
)


def upkeep_asset(upkeep: Upkeep, tables: Sequence[str]) -> dg.AssetsDefinition:
    """The asset of one kind of upkeep, over some tables."""

    @dg.asset(
        key=["maintenance", upkeep.name],
        group_name=GROUP,
        kinds={"paimon"},
        owners=["team:lakehouse"],
        description=upkeep.description,
    )
    def kept(context: dg.AssetExecutionContext, lakehouse: LakehouseResource) -> dg.MaterializeResult[Any]:
        done: dict[str, Numbers] = {}
        for name in tables:
            done[name] = upkeep.run(lakehouse.table(name))
            context.log.info("%s: %s", name, done[name])
        return dg.MaterializeResult(metadata=_metadata(done))

    return kept


def upkeep_schedule(upkeep: Upkeep) -> dg.ScheduleDefinition:
    """The schedule of one kind of upkeep; off until somebody switches it on."""
    return dg.ScheduleDefinition(
        name=f"maintenance_{upkeep.name}",
        cron_schedule=upkeep.cron,
        target=dg.AssetSelection.assets(["maintenance", upkeep.name]),
        description=upkeep.description,
    )


def _metadata(done: Mapping[str, Numbers]) -> dict[str, Any]:
    rows = pl.DataFrame([{"table": name, **numbers} for name, numbers in done.items()])
    sums = rows.drop("table").sum().to_dicts()[0] if done else {}
    return {**sums, "tables": dg.MetadataValue.md(markdown_table(rows))}

"""Schedules: yesterday recomputed every night, and all checks every hour. Off until somebody switches them on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import dagster as dg

from lakehouse_assets.metadata import asset_key

REPAIR_CRON: Final = "30 2 * * *"
STREAM_CRON: Final = "*/15 * * * *"
AUDIT_CRON: Final = "15 * * * *"


def repair_schedule(tables: Sequence[str], days: dg.DailyPartitionsDefinition) -> dg.ScheduleDefinition:
    """Recomputes yesterday's partition of some tables: a figure that went wrong is right again in the morning."""
    job = dg.define_asset_job(
        "repair_day",
        selection=dg.AssetSelection.assets(*(asset_key(table) for table in tables)),
        description="Recomputes a day of the partitioned tables.",
    )

    @dg.schedule(name="repair_yesterday", cron_schedule=REPAIR_CRON, job=job, description="Recomputes yesterday.")
    def yesterday(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        key = (context.scheduled_execution_time - timedelta(days=1)).strftime("%Y-%m-%d")
        if not days.has_partition_key(key):
            return dg.SkipReason(f"{key} has no partition")
        return dg.RunRequest(partition_key=key)

    return yesterday


def audit_schedule(tables: Sequence[str]) -> dg.ScheduleDefinition:
    """Evaluates every check of some tables."""
    return dg.ScheduleDefinition(
        name="audit",
        cron_schedule=AUDIT_CRON,
        target=dg.AssetSelection.checks_for_assets(*(asset_key(table) for table in tables)),
        description="Evaluates all checks of the tables.",
    )


def stream_schedule(name: str, keys: Sequence[dg.AssetKey], *, cron: str = STREAM_CRON) -> dg.ScheduleDefinition:
    """Moves streams on as far as there are changes, every quarter of an hour: mode "batch". On from the start."""
    return dg.ScheduleDefinition(
        name=f"{name}_streams",
        cron_schedule=cron,
        target=dg.AssetSelection.assets(*keys),
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Moves {len(keys)} streams on as far as there are changes.",
    )

"""Schedules: yesterday recomputed every night, and all checks every hour. Off until somebody switches them on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import dagster as dg

from lakehouse_assets.metadata import asset_key

REPAIR_CRON: Final = "30 2 * * *"
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

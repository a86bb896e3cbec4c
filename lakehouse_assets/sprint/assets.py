"""The case study as a project: its tables, what is ingested, its streams, its partitions and checks."""

from __future__ import annotations

import os
from typing import Final

import dagster as dg

from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.sprint.checks import CHECKS
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.sprint.tables import DDL, STREAMS

START_DATE: Final = os.environ.get("LAKEHOUSE_START_DATE", "2024-01-01")
"""The first day that has a partition. The running day and month have one too, since streams write them."""

SPRINT: Final = Project(
    name="sales",
    ddl=DDL,
    ingestions=INGESTIONS,
    streams=STREAMS,
    partitions={
        "v_date": dg.DailyPartitionsDefinition(start_date=START_DATE, end_offset=1),
        "v_month": dg.MonthlyPartitionsDefinition(start_date=START_DATE[:7], fmt="%Y-%m", end_offset=1),
    },
    checks=CHECKS,
    apart={"ingestion": [ingestion.target for ingestion in INGESTIONS]},
)


class SprintLakehouse(LakehouseResource):
    """A warehouse with the project's tables, which are created where they are missing."""

    ddl: str = DDL

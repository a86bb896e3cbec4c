"""ODS and DIM: tables of the source and their mirrors."""

from __future__ import annotations

from typing import Final

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.sources.change_source import BOOKKEEPING

_DIMENSION = (*BOOKKEEPING, "event_time")

INGESTIONS: Final = (
    Ingestion(source_table="city", target="dim.city", added=_DIMENSION),
    Ingestion(source_table="team", target="dim.team", added=_DIMENSION),
    Ingestion(source_table="agent", target="dim.agent", added=_DIMENSION),
    Ingestion(source_table="product", target="dim.product", added=_DIMENSION),
    Ingestion(source_table="sprint", target="dim.sprint", added=_DIMENSION),
    Ingestion(source_table="member", target="ods.member"),
    Ingestion(source_table="member_order", target="ods.member_order", days=("v_date",)),
)
"""Every table of the source, dimensions first."""

"""The project's tables: definitions from ``ddl/``, created where they are missing."""

from __future__ import annotations

from importlib import resources

from lakehouse_assets.sprint.app import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_assets.sprint.dwd import MEMBER_MONTH, MEMBER_ORDER
from lakehouse_assets.stream.declaration import Stream
from storage_engine import Catalog

LAYERS = ("ods", "dim", "dwd", "app")
DIMENSIONS = ("dim.city", "dim.team", "dim.agent", "dim.product", "dim.sprint")
LANDED = (*DIMENSIONS, "ods.member", "ods.member_order")
STREAMS: tuple[Stream, ...] = (MEMBER_ORDER, SPRINT_PERFORMANCE, MEMBER_MONTH, MEMBER_GROWTH)
"""All streams between tables, each after those it reads from."""

TABLES = (*LANDED, *(stream.target for stream in STREAMS))


def ddl(table: str) -> str:
    """The CREATE TABLE statement of a table."""
    return (resources.files(__package__) / "ddl" / f"{table.replace('.', '_')}.sql").read_text(encoding="utf-8")


def create_tables(catalog: Catalog) -> None:
    """Create the databases and tables that are missing."""
    for layer in LAYERS:
        catalog.create_database(layer, ignore_if_exists=True)
    for table in TABLES:
        catalog.execute(ddl(table))

"""The project's tables as their DDL files define them, and the streams that fill them."""

from __future__ import annotations

from importlib import resources
from typing import Final

from lakehouse_assets.ddl import QUARANTINE_DDL, defined_tables
from lakehouse_assets.sprint.app import MEMBER_GROWTH, SPRINT_PERFORMANCE
from lakehouse_assets.sprint.dwd import MEMBER_MONTH, MEMBER_ORDER
from lakehouse_assets.stream.declaration import Stream
from storage_engine import Catalog
from storage_engine.spec.schema import TableSchema

LAYERS: Final = ("ods", "dim", "dwd", "app")

STREAMS: Final[tuple[Stream, ...]] = (MEMBER_ORDER, SPRINT_PERFORMANCE, MEMBER_MONTH, MEMBER_GROWTH)
"""All streams between tables, each after those that it reads from."""


def layer_ddl(layer: str) -> str:
    """The statements that make a layer's database and tables."""
    return (resources.files(__package__) / "ddl" / f"{layer}.sql").read_text(encoding="utf-8")


DDL: Final = "\n".join([QUARANTINE_DDL, *(layer_ddl(layer) for layer in LAYERS)])
"""The statements that make all databases and tables."""


TABLES: Final[dict[str, TableSchema]] = defined_tables(DDL)
"""``layer.table`` → its definition, in the order of the layers."""


def create_tables(catalog: Catalog) -> None:
    """Create the databases and tables that are missing."""
    catalog.execute(DDL)

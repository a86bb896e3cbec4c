"""What the micro-batch benchmark has Dagster load: some streams between small tables, in the default mode."""

from __future__ import annotations

import os

from lakehouse_assets.project import Project
from lakehouse_assets.resources import LakehouseResource
from lakehouse_assets.stream.declaration import Stream

STREAMS = 4
_TABLE = """
CREATE TABLE IF NOT EXISTS db.{name} (id BIGINT, n BIGINT, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('bucket' = '2', 'changelog-producer' = 'lookup');
"""
PAIRS = [(f"db.source_{number}", f"db.target_{number}") for number in range(STREAMS)]
DDL = "CREATE DATABASE IF NOT EXISTS db;\n" + "".join(
    _TABLE.format(name=name.removeprefix("db.")) for pair in PAIRS for name in pair
)
PROJECT = Project(
    name="bench",
    ddl=DDL,
    streams=tuple(Stream(source=source, target=target, transform=lambda rows: rows) for source, target in PAIRS),
)
defs = PROJECT.definitions(LakehouseResource(warehouse=os.environ.get("LAKEHOUSE_WAREHOUSE", "warehouse"), ddl=DDL))

"""``Catalog``: a warehouse by name and by SQL, the door through which users come in."""

from __future__ import annotations

import polars as pl

from storage_engine.sql.execute import execute_statements
from storage_engine.sql.parser import parse_statements
from storage_engine.warehouse import Warehouse


class Catalog(Warehouse):
    """The databases and tables of a warehouse: ``Catalog("file:///data/warehouse")``, ``"s3://bucket/prefix"``, a plain path.

    ``storage_options`` go to fsspec; they are never logged and in no repr.
    """

    def execute(self, sql: str) -> pl.DataFrame | None:
        """Run statements of Flink/Paimon SQL; gives the result of the last one, None if it has none.

        Nothing is run if one of them cannot be parsed. Raises SqlError with line and column, and what the operations raise.
        """
        return execute_statements(self, parse_statements(sql))

"""``Catalog``: a warehouse by name and by SQL, the door through which users come in."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl

from storage_engine.errors import SqlError
from storage_engine.sql.execute import execute_statement
from storage_engine.sql.parser import parse_statement, parse_statements
from storage_engine.sql.query import query_frame
from storage_engine.sql.statements import Query
from storage_engine.warehouse import Warehouse


class Catalog(Warehouse):
    """The databases and tables of a warehouse: ``Catalog("file:///data/warehouse")``, ``"s3://bucket/prefix"``, a plain path.

    ``storage_options`` go to fsspec; they are never logged and in no repr.
    """

    def execute(self, sql: str) -> pl.DataFrame | None:
        """Run statements of Flink/Paimon SQL; gives the result of the last one, None if it has none.

        Nothing is run if one of them cannot be parsed. Raises SqlError with line and column, and what the operations raise.
        """
        result = None
        for result in self.execute_script(sql):  # noqa: B007 - the last one counts
            pass
        return result

    def sql(self, query: str) -> pl.LazyFrame:
        """The result of one query, lazily: SELECT over tables, ``t$branch_b``, system tables (``t$snapshots``) and views.

        Time travel as in Flink and Spark: ``t FOR VERSION AS OF 3`` (or a tag), ``t FOR SYSTEM_TIME AS OF TIMESTAMP '…'``, or
        the hint ``t /*+ OPTIONS('scan.snapshot-id' = '3') */``. Functions and types are those of Polars' SQL.
        Raises SqlError, TableNotFound, SnapshotNotFound.
        """
        statement = parse_statement(query)
        if not isinstance(statement, Query):
            raise SqlError("expected a query (SELECT, WITH or VALUES): run other statements with execute()")
        return query_frame(self, statement)

    def execute_script(self, sql: str) -> Iterator[pl.DataFrame | None]:
        """Run statements one by one, each when its result is asked for. Raises what ``execute`` raises."""
        for statement in parse_statements(sql):
            yield execute_statement(self, statement)

"""A lakehouse project as a Dagster component: a folder of SQL, or tables and streams in YAML.

::

    type: lakehouse_assets.components.LakehouseProject
    attributes:
      name: shop
      warehouse: "{{ env.LAKEHOUSE_WAREHOUSE }}"
      sql: sql
      partitions:
        v_date: {start: "2024-01-01"}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import dagster as dg
from pydantic import Field, field_validator

from lakehouse_assets.flink_sql.project import SqlProject, read_project, texts_of
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.resources import LakehouseResource, LandingResource
from lakehouse_assets.sources.change_source import BOOKKEEPING
from storage_engine.errors import InvalidInput

_EVERY: Final[Mapping[str, type[dg.DailyPartitionsDefinition | dg.MonthlyPartitionsDefinition]]] = {
    "day": dg.DailyPartitionsDefinition,
    "month": dg.MonthlyPartitionsDefinition,
}
_FORMATS: Final[Mapping[str, str]] = {"day": "%Y-%m-%d", "month": "%Y-%m"}


class TableModel(dg.Model, dg.Resolvable):
    """A table: ``columns`` are name → type of Flink SQL, such as ``DECIMAL(20, 4)``."""

    name: str
    columns: dict[str, str]
    primary_key: list[str] = Field(default=[])
    partitioned_by: list[str] = Field(default=[])
    options: dict[str, str | int | float | bool] = Field(default={})
    comment: str = ""

    @property
    def sql(self) -> str:
        """Its CREATE TABLE."""
        elements = [f"`{name}` {sql}" for name, sql in self.columns.items()]
        if self.primary_key:
            elements.append(f"PRIMARY KEY ({_names(self.primary_key)}) NOT ENFORCED")
        name = ".".join(f"`{part}`" for part in self.name.split("."))
        parts = [f"CREATE TABLE {name} ({', '.join(elements)})"]
        if self.comment:
            parts.append(f"COMMENT {_text(self.comment)}")
        if self.partitioned_by:
            parts.append(f"PARTITIONED BY ({_names(self.partitioned_by)})")
        if self.options:
            parts.append(
                f"WITH ({', '.join(f'{_text(key)} = {_text(_option(value))}' for key, value in self.options.items())})"
            )
        return " ".join(parts)


class StreamModel(dg.Model, dg.Resolvable):
    """A stream: ``select`` is a query in Flink SQL whose rows keep ``target``."""

    target: str
    select: str

    @property
    def sql(self) -> str:
        """Its INSERT."""
        name = ".".join(f"`{part}`" for part in self.target.split("."))
        return f"INSERT INTO {name} {self.select}"


class PartitionsModel(dg.Model, dg.Resolvable):
    """The partitions of the assets whose primary key holds a column: from ``start`` to the running day or month."""

    start: str
    every: Literal["day", "month"] = "day"

    @property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """As Dagster has them."""
        fmt = _FORMATS[self.every]
        return _EVERY[self.every](start_date=self.start[: 10 if self.every == "day" else 7], fmt=fmt, end_offset=1)


class IngestionModel(dg.Model, dg.Resolvable):
    """A table of the landing folder and its mirror; ``added``: columns of the mirror that the source does not have."""

    source_table: str
    target: str
    added: list[str] = Field(default=list(BOOKKEEPING))
    days: list[str] = Field(default=[])
    lenient: bool = False


class LakehouseProject(dg.Component, dg.Model, dg.Resolvable):
    """Tables, streams, sensors, checks, repair and upkeep of a project on one warehouse.

    ``sql``: a folder of ``*.sql`` files beside this one; ``tables`` and ``streams``: the same in YAML, or more of it.
    ``landing``: the folder in which the change files of ``ingestions`` land.
    """

    name: str
    warehouse: str = "warehouse"
    options: dict[str, str] = Field(default={})
    secret_options: dict[str, str] = Field(default={})
    database: str = "default"
    sql: str | None = None
    tables: list[TableModel] = Field(default=[])
    streams: list[StreamModel] = Field(default=[])
    partitions: dict[str, PartitionsModel] = Field(default={})
    landing: str | None = None
    ingestions: list[IngestionModel] = Field(default=[])

    @field_validator("warehouse", mode="before")
    @classmethod
    def _is_told(cls, warehouse: object) -> object:
        """An environment variable that is not set comes as None."""
        if warehouse is None:
            raise ValueError("the warehouse is not told: set the environment variable that {{ env.… }} names")
        return warehouse

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The project's definitions. Raises SqlError and NotIncremental with file and line."""
        return self.definitions(context.path)

    def definitions(self, folder: Path) -> dg.Definitions:
        """The project's definitions; its SQL stands in a folder within the given one."""
        read = self.read(folder)
        project = read.project(
            partitions={column: each.definition for column, each in self.partitions.items()},
            ingestions=[
                Ingestion(
                    source_table=each.source_table,
                    target=each.target,
                    added=tuple(each.added),
                    days=tuple(each.days),
                    lenient=each.lenient,
                )
                for each in self.ingestions
            ],
        )
        lakehouse = LakehouseResource(
            warehouse=self.warehouse, options=self.options, secret_options=self.secret_options, ddl=project.ddl
        )
        if self.landing is not None and read.changes is not None:
            raise InvalidInput(
                f"component {self.name}: tables with a connector and 'landing' are two sources: name one"
            )
        return project.definitions(
            lakehouse, read.changes if self.landing is None else LandingResource(folder=self.landing)
        )

    def read(self, folder: Path) -> SqlProject:
        """The project's SQL: what YAML says and the files of the folder. Raises InvalidInput for a folder without files."""
        texts = {f"table {table.name}": table.sql for table in self.tables}
        if self.sql is not None:
            files = sorted((folder / self.sql).rglob("*.sql"))
            if not files:
                raise InvalidInput(f"component {self.name}: {folder / self.sql} has no *.sql files")
            texts |= texts_of(files, folder)
        for number, stream in enumerate(self.streams, 1):
            name = f"stream {stream.target}"
            texts[f"{name} ({number})" if name in texts else name] = stream.sql
        return read_project(texts, name=self.name, database=self.database)


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _text(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _option(value: str | float | bool) -> str:
    """A value of an option as text: YAML reads ``4`` and ``true`` as what they are."""
    return str(value).lower() if isinstance(value, bool) else str(value)

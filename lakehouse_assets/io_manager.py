"""An IO manager for batch assets: a frame that an asset returns becomes a commit, and an input a frame.

Asset key → table (``["app", "report"]`` → ``app.report``). Frames are Polars (eager or lazy) or Arrow tables. An asset
with partitions names the column of its keys in its metadata, as ``partition_expr``; one run may hold a range of them,
which is one commit.

| metadata of the asset | |
|---|---|
| ``partition_expr`` | the column that holds the partition keys |
| ``mode`` | ``upsert`` (default), or ``overwrite``: replace the run's partitions, or the whole table |

| metadata of the input | |
|---|---|
| ``columns`` | the columns to read (default: all) |
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import dagster as dg
import polars as pl
import pyarrow as pa

from lakehouse_assets.metadata import row_count, table_metadata
from lakehouse_assets.reporting import data_version
from lakehouse_assets.resources import LakehouseResource
from storage_engine import Snapshot, Table
from storage_engine.errors import InvalidInput

Frame: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table

_READERS: Final[Mapping[object, Callable[[pl.LazyFrame], Frame]]] = {
    pl.LazyFrame: lambda rows: rows,
    pl.DataFrame: lambda rows: rows.collect(),
    pa.Table: lambda rows: rows.collect().to_arrow(),
    Any: lambda rows: rows,
}


class LakehouseIOManager(dg.ConfigurableIOManager):
    """Tables of a warehouse as inputs and outputs of assets."""

    lakehouse: dg.ResourceDependency[LakehouseResource]

    def handle_output(self, context: dg.OutputContext, obj: Frame | None) -> None:
        """Commit a frame; nothing is written for None. Raises InvalidInput, and what the engine raises."""
        if obj is None:
            return
        table = self.lakehouse.table(_table_name(context.asset_key))
        settings = context.definition_metadata
        column = settings.get("partition_expr")
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else None
        _check_partitions(table, column, keys)
        mode = settings.get("mode", "upsert")
        if mode not in _WRITERS:
            raise InvalidInput(f"asset of {table.name}: mode is {mode!r}; expected one of {', '.join(_WRITERS)}")
        frame = _eager(obj)
        if keys is not None:
            _check_rows(table, frame, column, keys)
        snapshot = _WRITERS[mode](table, frame, column, keys)
        metadata = table_metadata(table, warehouse=self.lakehouse.warehouse) | {"rows_written": frame.height}
        if keys is not None:
            metadata["dagster/partition_row_count"] = frame.height
        context.add_output_metadata(metadata | {"dagster/row_count": row_count(table)})
        if snapshot is not None:
            context.log.info("%s: snapshot %s", table.name, data_version(snapshot))

    def load_input(self, context: dg.InputContext) -> Frame:
        """The table of an upstream asset, or its partitions, as the type that the input is annotated with."""
        table = self.lakehouse.table(_table_name(context.asset_key))
        rows = table.scan()
        if context.has_asset_partitions:
            upstream = context.upstream_output
            column = None if upstream is None else upstream.definition_metadata.get("partition_expr")
            _check_partitions(table, column, list(context.asset_partition_keys))
            rows = rows.filter(pl.col(str(column)).is_in(list(context.asset_partition_keys)))
        columns = context.definition_metadata.get("columns")
        if columns is not None:
            rows = rows.select(list(columns))
        wanted = context.dagster_type.typing_type
        if wanted not in _READERS:
            raise InvalidInput(
                f"input of {table.name}: annotate it as pl.LazyFrame, pl.DataFrame or pa.Table, not {wanted}"
            )
        return _READERS[wanted](rows)


def _upsert(table: Table, frame: pl.DataFrame, _column: str | None, _keys: list[str] | None) -> Snapshot | None:
    return table.write(frame)


def _overwrite(table: Table, frame: pl.DataFrame, column: str | None, keys: list[str] | None) -> Snapshot | None:
    if keys is None or column is None:
        return table.overwrite(frame, partitions=None)
    return table.overwrite(frame, partitions=[{column: key} for key in keys])


_WRITERS: Final[Mapping[str, Callable[[Table, pl.DataFrame, str | None, list[str] | None], Snapshot | None]]] = {
    "upsert": _upsert,
    "overwrite": _overwrite,
}


def _table_name(key: dg.AssetKey) -> str:
    if len(key.path) != 2:
        raise InvalidInput(f"asset {key.to_user_string()} is no table: its key must be [database, table]")
    return ".".join(key.path)


def _check_partitions(table: Table, column: object, keys: list[str] | None) -> None:
    if keys is not None and column not in table.schema.column_names:
        raise InvalidInput(
            f"asset of {table.name}: it has partitions, so its metadata must name their column:"
            f' metadata={{"partition_expr": "…"}}; it names {column!r}'
        )


def _check_rows(table: Table, frame: pl.DataFrame, column: str | None, keys: list[str]) -> None:
    """Refuse rows of other partitions than the run's."""
    outside = frame.filter(~pl.col(str(column)).cast(pl.String).is_in(keys).fill_null(value=False))
    if outside.height:
        raise InvalidInput(
            f"asset of {table.name}: {outside.height} rows are of other partitions than the run's, such as"
            f" {column} = {outside[str(column)][0]!r}"
        )


def _eager(obj: Frame) -> pl.DataFrame:
    if isinstance(obj, pl.LazyFrame):
        return obj.collect()
    if isinstance(obj, pl.DataFrame):
        return obj
    frame = pl.from_arrow(obj)
    if not isinstance(frame, pl.DataFrame):
        raise InvalidInput(f"an asset returned {type(obj).__name__}; expected a polars frame or an Arrow table")
    return frame

"""A snapshot of a table as a Polars LazyFrame: projection, predicate and slice reach the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl
from polars.io.plugins import register_io_source

from storage_engine.read.merge_read import METADATA_TYPES, SplitReader
from storage_engine.read.plan import Plan
from storage_engine.spec.schema import TableSchema
from storage_engine.store.data_files import DataFiles

Planner = Callable[[pl.Expr | None], Plan]


def lazy_scan(
    schema: TableSchema,
    files: DataFiles,
    planner: Planner,
    *,
    table: str,
    metadata_columns: Sequence[str] = (),
) -> pl.LazyFrame:
    """A LazyFrame that plans and reads when it is collected; a frame is yielded for each
    split that is merged, and for as many others as fit in memory.
    """
    full = dict(schema.polars_schema) | {name: METADATA_TYPES[name] for name in metadata_columns}

    def read(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001 - a hint that Polars always passes
    ) -> Iterator[pl.DataFrame]:
        columns = list(full) if with_columns is None else with_columns
        reader = SplitReader(schema, files, columns=columns, predicate=predicate)
        left = n_rows
        for splits in reader.portions(planner(predicate).splits):
            if left is not None and left <= 0:
                return
            for frame in reader.read_together(splits, limit=left):
                rows = frame if left is None else frame.head(left)
                left = None if left is None else left - rows.height
                yield rows
                if left is not None and left <= 0:
                    return

    return register_io_source(read, schema=full, explain_name=f"paimon {table}")

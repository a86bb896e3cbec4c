"""DELETE and UPDATE of primary-key tables: which tables take them, and the rows that carry them out.

Spec: row-level operations of Apache Paimon 1.3.1 as Flink runs them: the selected rows are written once more, as -D or as +U.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from storage_engine.errors import InvalidInput, InvalidRows, Unsupported
from storage_engine.kernel.conform import ROW_KIND
from storage_engine.kernel.merge import MergePlan
from storage_engine.options import MergeEngine
from storage_engine.spec.schema import TableSchema

_DELETING_OPTIONS = {
    MergeEngine.PARTIAL_UPDATE: "'partial-update.remove-record-on-delete' or, with sequence groups,"
    " 'partial-update.remove-record-on-sequence-group'",
    MergeEngine.AGGREGATION: "'aggregation.remove-record-on-delete'",
}
_UPDATING_ENGINES = (MergeEngine.DEDUPLICATE, MergeEngine.PARTIAL_UPDATE)


def check_deletable(schema: TableSchema, *, table: str) -> None:
    """Refuse DELETE where a -D would not remove its row. Raises Unsupported, naming the option that is missing."""
    plan = MergePlan.of(schema)
    if plan.ignore_delete:
        raise Unsupported(f"table {table}: option 'ignore-delete' is 'true', so that a DELETE would change nothing")
    removes = plan.remove_on_delete or any(group.removes_record for group in plan.groups)
    if plan.engine is MergeEngine.DEDUPLICATE or removes:
        return
    option = _DELETING_OPTIONS.get(plan.engine)
    advice = "rewrite the partition with overwrite()" if option is None else f"set option {option}"
    raise Unsupported(f"table {table}: merge engine {plan.engine.value!r} cannot delete rows: {advice}")


def check_updatable(schema: TableSchema, columns: Mapping[str, pl.Expr], *, table: str) -> None:
    """Refuse an UPDATE that cannot be done. Raises InvalidInput for a column, Unsupported for the table."""
    unknown = [name for name in columns if name not in schema.by_name]
    if unknown:
        raise InvalidInput(f"table {table} has no column {unknown[0]!r}; columns: {', '.join(schema.column_names)}")
    if not columns:
        raise InvalidInput(f"table {table}: an update needs at least one assignment")
    if not schema.primary_keys:
        return
    keys = [name for name in columns if name in schema.primary_keys]
    if keys:
        raise InvalidInput(
            f"table {table}: column {keys[0]!r} is part of the primary key and cannot be updated;"
            " delete the rows and write them with the new key"
        )
    engine = schema.table_options.merge_engine
    if engine not in _UPDATING_ENGINES:
        raise Unsupported(f"table {table}: merge engine {engine.value!r} cannot update rows; write the new values")


def deleted_rows(rows: pl.LazyFrame, predicate: pl.Expr) -> pl.DataFrame:
    """The rows that a predicate selects, as -D."""
    return rows.filter(predicate).with_columns(pl.lit("-D").alias(ROW_KIND)).collect()


def updated_rows(
    rows: pl.LazyFrame, predicate: pl.Expr, assignments: Mapping[str, pl.Expr], schema: TableSchema, *, table: str
) -> pl.DataFrame:
    """The rows that a predicate selects with new values, as +U. All assignments see the old row.

    Raises InvalidRows where merge engine partial-update would leave a column as it was, since it takes NULL for "no value".
    """
    assigned = [value.alias(name) for name, value in assignments.items()]
    chosen = rows.filter(predicate)
    updated = chosen.with_columns(assigned).with_columns(pl.lit("+U").alias(ROW_KIND)).collect()
    for name in _kept_by_null(schema, assignments):
        if updated.get_column(name).null_count():
            raise InvalidRows(
                f"table {table}: column {name!r} cannot be set to NULL: merge engine 'partial-update' takes NULL for"
                " a value that is not given; delete the rows and write them anew"
            )
    return updated


def _kept_by_null(schema: TableSchema, assignments: Mapping[str, pl.Expr]) -> list[str]:
    if schema.table_options.merge_engine is not MergeEngine.PARTIAL_UPDATE or not schema.primary_keys:
        return []
    grouped = {name for group in MergePlan.of(schema).groups for name in group.columns}
    return [name for name in assignments if name not in grouped]

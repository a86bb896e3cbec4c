"""A user's frame becomes the table's: schema order, exact dtypes, row kinds; what does not fit is refused, never rounded.

Spec: "Table / Write" and "Sequence & Rowkind" of Apache Paimon 1.3.1. Checks happen before any row is filtered out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pyarrow as pa

from storage_engine.errors import InvalidRows
from storage_engine.kernel.convert import convert
from storage_engine.kernel.literals import parse_literal
from storage_engine.kernel.merge_plan import MergePlan
from storage_engine.spec.schema import VALUE_KIND, TableSchema
from storage_engine.spec.types import DataField

ROW_KIND = "_row_kind"
KIND_NAMES: tuple[str, ...] = ("+I", "-U", "+U", "-D")
_KINDS = {name: kind for kind, name in enumerate(KIND_NAMES)}
_UPDATE_BEFORE = 1
_RETRACTS = (1, 3)
_SHOWN_LENGTH = 80

UserFrame: TypeAlias = pl.DataFrame | pl.LazyFrame | pa.Table
Batches: TypeAlias = pl.LazyFrame | pa.RecordBatchReader


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """Rows of a column that are refused, with the values as the user gave them."""

    column: str
    bad: pl.Series
    reason: str
    given: pl.Series


@dataclass(frozen=True, slots=True, kw_only=True)
class _Examined:
    """A frame in the table's dtypes with ``_VALUE_KIND``, and what is wrong with it."""

    frame: pl.DataFrame
    faults: tuple[_Fault, ...]


def conform(frame: UserFrame, schema: TableSchema, *, table: str, first_row: int = 0) -> pl.DataFrame:
    """The rows to be written: all columns of the schema in order and ``_VALUE_KIND`` (Int8).

    ``frame`` may have a column ``_row_kind`` ("+I", "-U", "+U", "-D"; absent: all "+I"; option ``rowkind.field`` names a table
    column instead). A nullable column may be missing. Nulls take the column's default value, if it has one. Rows that the
    options ``ignore-delete`` and ``ignore-update-before`` name are left out.

    Raises InvalidRows, which names the table, the column, the first bad row (from 0; the frame's own first is ``first_row``) and
    its value.
    """
    examined = _examine(frame, schema, table)
    if examined.faults:
        raise InvalidRows(f"table {table}: {_first(examined.faults, first_row)}; nothing was written")
    return _filtered(examined.frame, schema)


def bad_rows(frame: UserFrame, schema: TableSchema, *, table: str = "") -> pl.DataFrame:
    """Why rows of a frame would be refused: columns ``row`` (Int64, from 0), ``column``, ``reason``, ``value`` (String).

    Sorted by row; a row may stand there for several columns. Raises InvalidRows if the frame as a whole does not fit (an
    unknown, missing or wrongly typed column).
    """
    faults = _examine(frame, schema, table).faults
    empty = pl.DataFrame(schema={"row": pl.Int64, "column": pl.String, "reason": pl.String, "value": pl.String})
    return pl.concat([empty, *(_listed(fault) for fault in faults)]).sort("row", maintain_order=True)


def _listed(fault: _Fault) -> pl.DataFrame:
    rows = fault.bad.arg_true().cast(pl.Int64)
    values = pl.Series("value", [_shown(value) for value in fault.given[rows]], dtype=pl.String)
    return pl.DataFrame({"row": rows}).select(
        "row", pl.lit(fault.column).alias("column"), pl.lit(fault.reason).alias("reason"), values
    )


def conform_batches(batches: Batches, schema: TableSchema, *, table: str, batch_rows: int) -> Iterator[pl.DataFrame]:
    """What ``conform`` gives, batch by batch, for rows that are too many to be held; at least one frame.

    ``batch_rows`` is how many rows of a LazyFrame are computed at once. Raises InvalidRows, at the first bad batch.
    """
    first_row = 0
    for frame in _frames(batches, batch_rows):
        yield conform(frame, schema, table=table, first_row=first_row)
        first_row += frame.num_rows if isinstance(frame, pa.Table) else frame.height


def _frames(batches: Batches, batch_rows: int) -> Iterator[pl.DataFrame | pa.Table]:
    if isinstance(batches, pa.RecordBatchReader):
        yield batches.schema.empty_table()
        yield from (pa.Table.from_batches([batch]) for batch in batches)
        return
    yield pl.DataFrame(schema=batches.collect_schema())
    yield from batches.collect_batches(chunk_size=batch_rows, maintain_order=True)


def _first(faults: Sequence[_Fault], first_row: int) -> str:
    rows = [int(fault.bad.arg_true()[0]) for fault in faults]
    row, fault = min(zip(rows, faults, strict=True), key=lambda item: item[0])
    return f"column {fault.column!r}, row {first_row + row}: value {_shown(fault.given[row])} {fault.reason}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…"


def _examine(frame: UserFrame, schema: TableSchema, table: str) -> _Examined:
    given = _as_frame(frame, table)
    _check_names(given.columns, schema, table)
    faults: list[_Fault] = []
    columns = [_column(given, field, faults, table) for field in schema.fields]
    conformed = pl.DataFrame(columns)
    kinds = _kinds(given, conformed, schema, faults, table)
    faults += _unmergeable(kinds, schema)
    return _Examined(frame=conformed.hstack([kinds]), faults=tuple(faults))


def _as_frame(frame: UserFrame, table: str) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if not isinstance(frame, pa.Table):
        raise InvalidRows(
            f"table {table}: cannot write a {type(frame).__name__}; give a polars frame or a pyarrow Table"
        )
    names = frame.column_names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRows(f"table {table}: column {twice!r} is there twice")
    return pl.DataFrame([_from_arrow(name, frame.column(name), table) for name in names])


def _from_arrow(name: str, column: pa.ChunkedArray, table: str) -> pl.Series:
    try:
        if pa.types.is_decimal256(column.type):
            column = column.cast(pa.decimal128(38, column.type.scale))
        return pl.Series(name, column)
    except (pa.ArrowInvalid, pl.exceptions.PolarsError, pl.exceptions.PanicException) as cause:
        raise InvalidRows(f"table {table}: column {name!r} of Arrow type {column.type} cannot be read") from cause


def _check_names(names: Sequence[str], schema: TableSchema, table: str) -> None:
    unknown = [name for name in names if name not in schema.by_name and name != ROW_KIND]
    if unknown:
        raise InvalidRows(
            f"table {table}: the frame has a column {unknown[0]!r}, which the table has not;"
            f" columns: {', '.join(schema.column_names)}"
        )
    for field in schema.fields:
        if field.name not in names and not field.type.nullable and field.default_value is None:
            raise InvalidRows(
                f"table {table}: the frame lacks column {field.name!r}, which is NOT NULL"
                + (" (part of the primary key)" if field.name in schema.primary_keys else "")
            )


def _column(given: pl.DataFrame, field: DataField, faults: list[_Fault], table: str) -> pl.Series:
    """A column of the table, whole; what is wrong with it is added to ``faults``."""
    name = field.name
    values = given.get_column(name) if name in given.columns else pl.repeat(None, given.height, eager=True).alias(name)
    converted = convert(values, field.type)
    if converted is None:
        raise InvalidRows(
            f"table {table}: column {name!r} of type {field.type.sql} cannot take values of type {values.dtype}"
            f" ({_example(values)}); convert the column first"
        )
    if converted.bad is not None:
        faults.append(_Fault(column=name, bad=converted.bad, reason=converted.reason, given=values))
    result = converted.values
    if field.default_value is not None and values.null_count():
        default = parse_literal(field.default_value, field.type)
        result = pl.select(pl.when(values.is_null()).then(default).otherwise(result)).to_series()
    if not field.type.nullable and result.null_count():
        missing = result.is_null() & values.is_null()
        if missing.any():
            reason = "is not allowed: the column is NOT NULL; fill it, or leave such rows out"
            faults.append(_Fault(column=name, bad=missing, reason=reason, given=values))
    return result.alias(name)


def _example(values: pl.Series) -> str:
    present = values.drop_nulls()
    return "all null" if present.is_empty() else f"such as {_shown(present[0])}"


def _kinds(
    given: pl.DataFrame, conformed: pl.DataFrame, schema: TableSchema, faults: list[_Fault], table: str
) -> pl.Series:
    """``_VALUE_KIND`` of each row, from ``rowkind.field``, ``_row_kind``, or +I."""
    field = schema.table_options.rowkind_field
    if field is None and ROW_KIND not in given.columns:
        return pl.Series(VALUE_KIND, np.zeros(given.height, np.int8))
    if field is not None and field not in schema.by_name:
        raise InvalidRows(f"table {table}: option 'rowkind.field' names {field!r}, which is not a column")
    names = conformed.get_column(field) if field is not None else given.get_column(ROW_KIND)
    if names.dtype in (pl.Categorical, pl.Enum, pl.Null):
        names = names.cast(pl.String)
    if names.dtype != pl.String:
        raise InvalidRows(f"table {table}: column {names.name!r} of type {names.dtype} holds no row kinds")
    kinds = names.replace_strict(_KINDS, default=None, return_dtype=pl.Int8).alias(VALUE_KIND)
    if kinds.null_count():
        reason = f"is no row kind; expected one of {', '.join(KIND_NAMES)}"
        faults.append(_Fault(column=names.name, bad=kinds.is_null(), reason=reason, given=names))
    return kinds


def _unmergeable(kinds: pl.Series, schema: TableSchema) -> Iterator[_Fault]:
    """Retract rows that the table could store but never merge: they would make it unreadable."""
    present = [kind for kind in _RETRACTS if (kinds == kind).any()]
    if not present:
        return
    refusals = _refusals(schema)
    for kind in present:
        reason = refusals.get(kind)
        if reason is not None:
            bad = (kinds == kind).fill_null(value=False)
            given = kinds.replace_strict(dict(enumerate(KIND_NAMES)), default=None, return_dtype=pl.String)
            yield _Fault(column=ROW_KIND, bad=bad, reason=reason, given=given)


def _refusals(schema: TableSchema) -> Mapping[int, str | None]:
    if not schema.primary_keys:
        reason = "cannot be written: a table without a primary key takes inserts only"
        return dict.fromkeys(_RETRACTS, reason)
    options = schema.table_options
    plan = MergePlan.of(schema)
    found = {kind: plan.refusal(kind) for kind in _RETRACTS}
    if options.ignore_update_before:
        found[_UPDATE_BEFORE] = None
    return found


def _filtered(frame: pl.DataFrame, schema: TableSchema) -> pl.DataFrame:
    options = schema.table_options
    if not schema.primary_keys or not (options.ignore_delete or options.ignore_update_before):
        return frame
    dropped = list(_RETRACTS) if options.ignore_delete else [_UPDATE_BEFORE]
    return frame.filter(~pl.col(VALUE_KIND).is_in(dropped))

"""Statistics of a table's rows as ``ANALYZE TABLE`` keeps them: distinct values, range, nulls and lengths of its columns.

Spec: ``Statistics`` and ``ColStats`` of Apache Paimon 1.3.1; minimum and maximum stand as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from typing import Any

import polars as pl

from storage_engine.spec.types import NESTED_ROOTS, DataField, DataType, TypeRoot

_EPOCH = date(1970, 1, 1)
_TEXT = frozenset({TypeRoot.CHAR, TypeRoot.VARCHAR})
_BYTES = frozenset({TypeRoot.BINARY, TypeRoot.VARBINARY})
_RANGELESS = _TEXT | _BYTES | {TypeRoot.BOOLEAN}
_ROWS = "rows"


def has_statistics(data_type: DataType) -> bool:
    """Whether a column of the type can be analyzed: nested ones cannot."""
    return data_type.root not in NESTED_ROOTS


def column_statistics(rows: pl.LazyFrame, fields: Sequence[DataField]) -> tuple[int, dict[str, dict[str, object]]]:
    """The number of rows, and for each field its entry of ``colStats``. REQUIRES: ``has_statistics`` of all."""
    asked: list[pl.Expr] = [pl.len().alias(_ROWS)]
    for number, field in enumerate(fields):
        asked += [value.alias(f"{number}.{name}") for name, value in _asked(field).items()]
    found = rows.select(asked).collect(engine="streaming").row(0, named=True)
    columns = {}
    for number, field in enumerate(fields):
        mine = {name: found[f"{number}.{name}"] for name in _asked(field)}
        columns[field.name] = {"colId": field.id} | _entry(mine, field.type)
    return found[_ROWS], columns


def _asked(field: DataField) -> Mapping[str, pl.Expr]:
    column, root = pl.col(field.name), field.type.root
    asked = {"nullCount": column.null_count()}
    if root not in _BYTES:
        asked["distinctCount"] = column.drop_nulls().n_unique()
    if root not in _RANGELESS:
        asked |= {"min": column.min(), "max": column.max()}
    if root in _TEXT | _BYTES:
        length = column.str.len_chars() if root in _TEXT else column.bin.size()
        asked |= {"avgLen": length.mean(), "maxLen": length.max()}
    return asked


def _entry(found: Mapping[str, Any], data_type: DataType) -> dict[str, object]:
    """What was found, in Paimon's order and words; what is not known is left out."""
    texts = {name: _text(found[name], data_type) for name in ("min", "max") if found.get(name) is not None}
    lengths = {name: int(found[name]) for name in ("avgLen", "maxLen") if found.get(name) is not None}
    distinct = {"distinctCount": found["distinctCount"]} if "distinctCount" in found else {}
    return {**distinct, **texts, "nullCount": found["nullCount"], **lengths}


def _text(value: Any, data_type: DataType) -> str:
    match value:
        case datetime():
            fraction = f"{value.microsecond:06d}".ljust(9, "0")[: data_type.precision or 0]
            moment = value.strftime("%Y-%m-%d %H:%M:%S")
            return f"{moment}.{fraction}" if fraction else moment
        case date():
            return str((value - _EPOCH).days)
        case time():
            return str(((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000)
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float() if math.isnan(value):
            return "NaN"
        case _:
            return format(value, "f") if data_type.root is TypeRoot.DECIMAL else str(value)

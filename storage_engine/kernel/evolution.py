"""A frame of an old schema seen through the current one: matched by field id, renamed, cast, null where missing.

Spec: "Schema Evolution" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import polars as pl

from storage_engine.errors import InvalidRows, Unsupported
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.types import (
    FLOAT_ROOTS,
    INTEGER_ROOTS,
    STRING_ROOTS,
    TIMESTAMP_ROOTS,
    DataField,
    DataType,
    TypeRoot,
)

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def read_as(frame: Frame, file_schema: TableSchema, schema: TableSchema, columns: Sequence[str]) -> Frame:
    """Columns of the current schema out of a frame that was read by a file's schema.

    ``frame`` has the file's names; ``_SEQUENCE_NUMBER`` and ``_VALUE_KIND`` are kept in front if they are there. A column
    that the file lacks is null, also if it has a default value. Values of a changed type are cast as Paimon casts them.

    Raises InvalidRows if a stored value has no value in the new type (of a LazyFrame: Polars' error when it is collected), and
    Unsupported for a change of type that is not done here.
    """
    stored = frame.collect_schema()
    by_id = {field.id: field for field in file_schema.fields}
    system = [
        pl.col(name).cast(dtype)
        for name, dtype in ((SEQUENCE_NUMBER, pl.Int64), (VALUE_KIND, pl.Int8))
        if name in stored
    ]
    wanted = [_column(schema.by_name[name], by_id, stored) for name in columns]
    if isinstance(frame, pl.LazyFrame):
        return frame.select(*system, *wanted)
    try:
        return frame.select(*system, *wanted)
    except pl.exceptions.InvalidOperationError as cause:
        raise InvalidRows(
            f"rows of schema {file_schema.id} cannot be read by schema {schema.id}: {cause};"
            " change the column's type back, or rewrite those rows"
        ) from cause


def _column(field: DataField, by_id: dict[int, DataField], stored: pl.Schema) -> pl.Expr:
    old = by_id.get(field.id)
    if old is None or old.name not in stored:
        return pl.lit(None, field.type.to_polars()).alias(field.name)
    return _seen_as(pl.col(old.name), stored[old.name], old.type, field.type).alias(field.name)


def cast_column(values: pl.Series, source: DataType, target: DataType) -> pl.Series:
    """Cast a column of one type to another as Paimon does. Raises polars' InvalidOperationError and Unsupported."""
    expression = _seen_as(pl.col(values.name), values.dtype, source, target)
    return values.to_frame().select(expression.alias(values.name)).to_series()


def _seen_as(values: pl.Expr, dtype: pl.DataType, source: DataType, target: DataType) -> pl.Expr:
    """Normalise what a file format made of a type, then cast from type to type."""
    normal = source.to_polars()
    if isinstance(dtype, pl.Datetime) and isinstance(normal, pl.Datetime):
        values = _in_zone(values, dtype, normal.time_zone)
        dtype = pl.Datetime(dtype.time_unit, normal.time_zone)
    if dtype != normal:
        values = values.cast(normal)
    return _cast(values, source, target)


def _in_zone(values: pl.Expr, dtype: pl.Datetime, zone: str | None) -> pl.Expr:
    """Paimon keeps both kinds of timestamp as UTC numbers, so a zone in a file changes no number."""
    if dtype.time_zone == zone:
        return values
    if dtype.time_zone not in (None, "UTC"):
        values = values.dt.convert_time_zone("UTC")
    return values.dt.replace_time_zone(zone)


@dataclass(frozen=True, slots=True)
class _Cast:
    """Values of a type that are wanted in another."""

    values: pl.Expr
    source: DataType
    target: DataType


def _cast(values: pl.Expr, source: DataType, target: DataType) -> pl.Expr:
    if _same(source, target):
        return values
    if source.root is TypeRoot.ROW and target.root is TypeRoot.ROW:
        return _cast_row(values, source, target)
    if source.root is target.root is TypeRoot.ARRAY and source.element and target.element:
        return values.list.eval(_cast(pl.element(), source.element, target.element))
    if source.root is target.root and source.root in (TypeRoot.MAP, TypeRoot.MULTISET):
        parts = [
            _cast(pl.element().struct.field(name), old, new).alias(name)
            for name, old, new in zip(("key", "value"), source.map_parts(), target.map_parts(), strict=True)
        ]
        return values.list.eval(pl.struct(parts))
    for accepts_source, accepts_target, caster in _CASTS:
        if source.root in accepts_source and target.root in accepts_target:
            return caster(_Cast(values, source, target))
    raise Unsupported(f"reading {source.sql} as {target.sql} is not done here")


def _same(source: DataType, target: DataType) -> bool:
    return source.with_nullable(nullable=True) == target.with_nullable(nullable=True)


def _cast_row(values: pl.Expr, source: DataType, target: DataType) -> pl.Expr:
    by_id = {field.id: field for field in source.fields}
    parts = []
    for field in target.fields:
        old = by_id.get(field.id)
        part = (
            pl.lit(None, field.type.to_polars())
            if old is None
            else _cast(values.struct.field(old.name), old.type, field.type)
        )
        parts.append(part.alias(field.name))
    return pl.when(values.is_not_null()).then(pl.struct(parts))


def _plain(cast: _Cast) -> pl.Expr:
    return cast.values.cast(cast.target.to_polars())


def _wrapped(cast: _Cast) -> pl.Expr:
    """Java's narrowing of integers keeps the low bits."""
    return cast.values.cast(cast.target.to_polars(), wrap_numerical=True)


def _saturated(cast: _Cast) -> pl.Expr:
    """Java's float to integer: toward zero, NaN is 0, too large is the largest (for narrow types by way of INT)."""
    through = pl.Int64 if cast.target.root is TypeRoot.BIGINT else pl.Int32
    least, most = (-(2**63), 2**63 - 1) if through is pl.Int64 else (-(2**31), 2**31 - 1)
    whole = cast.values.cast(pl.Float64)
    number = (
        pl.when(whole.is_nan())
        .then(0)
        .when(whole >= float(most))
        .then(most)
        .when(whole <= float(least))
        .then(least)
        .otherwise(whole.cast(through, strict=False))
        .cast(through)
    )
    return number.cast(cast.target.to_polars(), wrap_numerical=True)


def _to_decimal(cast: _Cast) -> pl.Expr:
    """Rounded half up (away from zero); null where the precision does not suffice."""
    values, scale = cast.values, cast.target.scale or 0
    if cast.source.root is TypeRoot.DECIMAL:
        values = values.round(scale, mode="half_away_from_zero")
    elif cast.source.root in FLOAT_ROOTS and scale <= _TEXT_SCALE:
        # By way of the shortest text, which is the number that Java rounds; large floats have no fraction.
        text = values.cast(pl.String)
        exact = text.cast(pl.Decimal(_MAX_PRECISION, _TEXT_SCALE), strict=False)
        rounded = exact.round(scale, mode="half_away_from_zero").cast(cast.target.to_polars(), strict=False)
        whole = text.cast(cast.target.to_polars(), strict=False)
        return pl.when(values.abs() < _LARGEST_FRACTION).then(rounded).otherwise(whole)
    return values.cast(cast.target.to_polars(), strict=False)


def _decimal_to_integer(cast: _Cast) -> pl.Expr:
    return cast.values.cast(pl.Int128).cast(cast.target.to_polars(), wrap_numerical=True)


def _boolean_to_text(cast: _Cast) -> pl.Expr:
    text = pl.when(cast.values).then(pl.lit("true")).when(~cast.values).then(pl.lit("false"))
    return _cut(replace(cast, values=text))


def _to_text(cast: _Cast) -> pl.Expr:
    return _cut(replace(cast, values=cast.values.cast(pl.String)))


def _timestamp_to_text(cast: _Cast) -> pl.Expr:
    digits = cast.source.precision if cast.source.precision is not None else 6
    text = cast.values.dt.to_string("%Y-%m-%d %H:%M:%S%.9f")
    kept = text.str.slice(0, 19 if digits == 0 else 20 + digits)
    return _cut(replace(cast, values=kept))


def _cut(cast: _Cast) -> pl.Expr:
    """Text that is longer than the type is cut, shorter text stays as it is."""
    return cast.values if cast.target.length is None else cast.values.str.head(cast.target.length)


def _text_to_number(cast: _Cast) -> pl.Expr:
    return cast.values.str.strip_chars().cast(cast.target.to_polars())


def _text_to_boolean(cast: _Cast) -> pl.Expr:
    meanings = dict.fromkeys(("t", "true", "y", "yes", "1"), True)
    meanings |= dict.fromkeys(("f", "false", "n", "no", "0"), False)
    return cast.values.str.to_lowercase().replace_strict(meanings, return_dtype=pl.Boolean)


def _text_to_date(cast: _Cast) -> pl.Expr:
    return cast.values.str.strip_chars().str.slice(0, 10).str.to_date("%Y-%m-%d")


def _text_to_timestamp(cast: _Cast) -> pl.Expr:
    text = cast.values.str.strip_chars().str.replace("T", " ", literal=True)
    whole = pl.when(text.str.len_chars() == 10).then(text + " 00:00:00").otherwise(text)
    moment = whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ns")
    return moment.cast(pl.Datetime(cast.target.time_unit)).dt.replace_time_zone(_zone(cast.target))


def _text_to_time(cast: _Cast) -> pl.Expr:
    return cast.values.str.strip_chars().str.to_time("%H:%M:%S%.f")


def _text_to_bytes(cast: _Cast) -> pl.Expr:
    return cast.values.cast(pl.Binary)


def _retimed(cast: _Cast) -> pl.Expr:
    """Between timestamps, finer digits are cut off; local time counts as UTC."""
    naive = cast.values.dt.replace_time_zone(None) if cast.source.root in TIMESTAMP_ROOTS else cast.values
    casted = naive.cast(pl.Datetime(cast.target.time_unit))
    return casted.dt.replace_time_zone(_zone(cast.target))


def _zone(target: DataType) -> str | None:
    return "UTC" if target.root is TypeRoot.TIMESTAMP_LTZ else None


def _to_date(cast: _Cast) -> pl.Expr:
    return cast.values.dt.date()


def _to_time(cast: _Cast) -> pl.Expr:
    return cast.values.dt.time()


def _nonzero(cast: _Cast) -> pl.Expr:
    return cast.values != 0


def _kept(cast: _Cast) -> pl.Expr:
    return cast.values


def _bytes_cut(cast: _Cast) -> pl.Expr:
    return cast.values if cast.target.length is None else cast.values.bin.head(cast.target.length)


_MAX_PRECISION, _TEXT_SCALE, _LARGEST_FRACTION = 38, 18, 2.0**53
_BOOLEAN, _DECIMAL = frozenset({TypeRoot.BOOLEAN}), frozenset({TypeRoot.DECIMAL})
_DATE, _TIME = frozenset({TypeRoot.DATE}), frozenset({TypeRoot.TIME})
_BYTES = frozenset({TypeRoot.BINARY, TypeRoot.VARBINARY})
_NUMERIC = INTEGER_ROOTS | FLOAT_ROOTS | _DECIMAL
_Caster = Callable[[_Cast], pl.Expr]
_CASTS: tuple[tuple[frozenset[TypeRoot], frozenset[TypeRoot], _Caster], ...] = (
    (INTEGER_ROOTS, INTEGER_ROOTS, _wrapped),
    (FLOAT_ROOTS, INTEGER_ROOTS, _saturated),
    (_DECIMAL, INTEGER_ROOTS, _decimal_to_integer),
    (_NUMERIC, FLOAT_ROOTS, _plain),
    (_NUMERIC, _DECIMAL, _to_decimal),
    (_BOOLEAN, _NUMERIC, _plain),
    (INTEGER_ROOTS, _BOOLEAN, _nonzero),
    (_BOOLEAN, STRING_ROOTS, _boolean_to_text),
    (TIMESTAMP_ROOTS, STRING_ROOTS, _timestamp_to_text),
    (_NUMERIC | _DATE | _TIME, STRING_ROOTS, _to_text),
    (STRING_ROOTS, STRING_ROOTS, _cut),
    (STRING_ROOTS, _NUMERIC, _text_to_number),
    (STRING_ROOTS, _BOOLEAN, _text_to_boolean),
    (STRING_ROOTS, _DATE, _text_to_date),
    (STRING_ROOTS, _TIME, _text_to_time),
    (STRING_ROOTS, TIMESTAMP_ROOTS, _text_to_timestamp),
    (STRING_ROOTS, _BYTES, _text_to_bytes),
    (_BYTES, _BYTES, _bytes_cut),
    (TIMESTAMP_ROOTS | _DATE, TIMESTAMP_ROOTS, _retimed),
    (TIMESTAMP_ROOTS, _DATE, _to_date),
    (TIMESTAMP_ROOTS, _TIME, _to_time),
    (_TIME, _TIME, _kept),
)

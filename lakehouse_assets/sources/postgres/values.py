"""PostgreSQL's types as Polars', and its texts of values as these.

| PostgreSQL | column |
|---|---|
| boolean, smallint, integer, bigint, real, double precision | BOOLEAN, SMALLINT, INT, BIGINT, FLOAT, DOUBLE |
| numeric(p, s) with p ≤ 38 | DECIMAL(p, s); without p and s: what the target has |
| date, time (in whole milliseconds) | DATE, TIME |
| timestamp(n), timestamp(n) with time zone | TIMESTAMP(3) or (6), TIMESTAMP_LTZ(3) or (6) |
| bytea | BYTES |
| one-dimensional arrays of these | ARRAY |
| text, varchar, char, uuid, json, jsonb, enums, and every other type | STRING, as the server tells it |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.schema_following import engine_type
from lakehouse_assets.sources.typed_rows import REASON
from storage_engine.spec.type_casts import is_lossless_cast

FREE_NUMERIC: Final = pl.Decimal(38, 18)
"""The column of a numeric without precision, where the target has none yet."""
SHOWN_CHARACTERS: Final = 50

_PLAIN: Final[Mapping[str, pl.DataType]] = {
    "bool": pl.Boolean(),
    "int2": pl.Int16(),
    "int4": pl.Int32(),
    "int8": pl.Int64(),
    "oid": pl.Int64(),
    "float4": pl.Float32(),
    "float8": pl.Float64(),
    "date": pl.Date(),
    "time": pl.Time(),
    "bytea": pl.Binary(),
}
_ELEMENT: Final = r'"(?:[^"\\]|\\.)*"|[^,{}]+'


@dataclass(frozen=True, slots=True, kw_only=True)
class PgColumn:
    """A column of the source: its type by the catalog's name and modifier. ``filled``: older rows may have values."""

    name: str
    type_name: str
    modifier: int
    filled: bool

    @property
    def is_free_numeric(self) -> bool:
        """Whether it is a numeric of any size."""
        return self.type_name == "numeric" and self.modifier < 0

    def dtype(self, target: pl.DataType | None) -> pl.DataType:
        """The dtype to read it as: the target's, if that holds every value, or is asked to judge each."""
        own = _dtype(self.type_name, self.modifier)
        if target is None or own == target:
            return own
        if self.is_free_numeric and isinstance(target, pl.Decimal):
            return target
        fits = is_lossless_cast(engine_type(self.name, own), engine_type(self.name, target))
        return target if fits else own


def _dtype(type_name: str, modifier: int) -> pl.DataType:
    if type_name in _PLAIN:
        return _PLAIN[type_name]
    if type_name == "numeric":
        return _numeric(modifier)
    if type_name in ("timestamp", "timestamptz"):
        unit = "ms" if 0 <= modifier <= 3 else "us"
        return pl.Datetime("ms" if unit == "ms" else "us", "UTC" if type_name == "timestamptz" else None)
    if type_name.startswith("_"):
        return pl.List(_dtype(type_name[1:], modifier))
    return pl.String()


def _numeric(modifier: int) -> pl.DataType:
    if modifier < 0:
        return FREE_NUMERIC
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    return pl.Decimal(precision, scale) if scale <= precision <= 38 else pl.String()


def typed(texts: pl.DataFrame, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Texts as values; ``_reason`` tells of the first that its column cannot hold (a NaN, an infinite day, …)."""
    values = texts.with_columns(read(pl.col(name), dtype).alias(name) for name, dtype in columns.items())
    wrong = [
        pl.when(_lost(texts[name], values[name])).then(
            pl.format(f"{name} is no {engine_type(name, dtype).sql}: {{}}", texts[name].str.slice(0, SHOWN_CHARACTERS))
        )
        for name, dtype in columns.items()
    ]
    return values.with_columns(pl.coalesce(*wrong, pl.lit(None, pl.String)).alias(REASON))


def _lost(text: pl.Series, value: pl.Series) -> pl.Series:
    """Where a text has no value, or an array has an element without one."""
    lost = text.is_not_null() & value.is_null()
    if isinstance(value.dtype, pl.List):
        nulls = value.list.eval(pl.element().is_null().sum()).list.first().fill_null(0)
        told = text.str.extract_all(_ELEMENT).list.eval((pl.element() == "NULL").sum()).list.first().fill_null(0)
        lost = lost | (nulls != told).fill_null(value=False)
    return lost


def read(text: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The value of a text; null if the dtype does not have it."""
    if isinstance(dtype, pl.List):
        return _array(text, dtype)
    if isinstance(dtype, pl.Decimal):
        whole, scale = dtype.precision - dtype.scale, dtype.scale
        fits = text.str.contains(rf"^-?0*[0-9]{{0,{whole}}}(\.[0-9]{{0,{scale}}}0*)?$")
        digits = text.str.extract(rf"^(-?[0-9]*(?:\.[0-9]{{0,{scale}}})?)")
        return pl.when(fits).then(digits).cast(dtype, strict=False)
    if isinstance(dtype, pl.Datetime):
        day = text.str.contains(r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+(\+00)?$")
        moment = text.str.strip_suffix("+00").str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
        return pl.when(day).then(moment).dt.cast_time_unit(dtype.time_unit).dt.replace_time_zone(dtype.time_zone)
    if dtype == pl.Date():
        return text.str.to_date("%Y-%m-%d", strict=False)
    if dtype == pl.Time():
        moment = text.str.to_time("%H:%M:%S%.f", strict=False)
        return pl.when(moment.dt.nanosecond() % 1_000_000 == 0).then(moment)  # a table's TIME holds no more
    if dtype == pl.Boolean():
        return text == "t"
    if dtype == pl.Binary():
        return text.str.strip_prefix("\\x").str.decode("hex", strict=False)
    if dtype == pl.String():
        return text
    return text.cast(dtype, strict=False)


def _array(text: pl.Expr, dtype: pl.List) -> pl.Expr:
    """``{1,NULL,"a b"}``; arrays of arrays, and such that do not begin at 1, are none."""
    flat = text.str.contains(r"^\{") & ~text.str.contains(r"^\{\{")
    element = pl.element()
    bare = pl.when(element.str.starts_with('"')).then(
        element.str.slice(1, element.str.len_chars() - 2).str.replace_all(r"\\(.)", "$1")
    )
    value = bare.otherwise(pl.when(element != "NULL").then(element))
    inner = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
    return pl.when(flat).then(text.str.extract_all(_ELEMENT).list.eval(read(value, inner)))

"""Types of Flink's SQL as Polars has them, and casts between them by Flink's rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import polars as pl
from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place
from storage_engine.errors import InvalidSchema
from storage_engine.spec.types import parse_type

_FRACTION: Final[Mapping[str, int]] = {"ms": 3, "us": 6, "ns": 9}
_ZONED: Final = {"TIMESTAMPLTZ": "TIMESTAMP_LTZ", "TIMESTAMPNTZ": "TIMESTAMP"}
_DIGITS: Final[Mapping[int, str]] = {0: "1s", 1: "100ms", 2: "10ms", 4: "100us", 5: "10us", 7: "100ns", 8: "10ns"}
"""What a time is cut to; of other digits, by its type."""
_WORDS: Final[Mapping[str, str]] = {"TEXT": "STRING", "VARBINARY": "BYTES", **_ZONED}


def type_of(node: exp.DataType, place: Place) -> pl.DataType:
    """The Polars type of a type's name. Raises SqlError."""
    name = str(node.this.value if hasattr(node.this, "value") else node.this)
    arguments = ", ".join(part.sql() for part in node.expressions)
    word = _WORDS.get(name, name)
    text = f"{word}({arguments})" if arguments and word not in ("STRING", "BYTES") else word
    try:
        return parse_type(text).to_polars()
    except InvalidSchema as cause:
        raise place.error(f"CAST to {node.sql()}: {cause}", node) from cause


def fitted(expr: pl.Expr, node: exp.DataType) -> pl.Expr:
    """A value of a type, cut or filled to the length that the type's name tells, or cut to its digits of a second."""
    name = str(node.this.value if hasattr(node.this, "value") else node.this)
    given = node.expressions[0].this if node.expressions else None
    length = int(given.this) if isinstance(given, exp.Literal) and given.this.isdecimal() else None
    if name == "CHAR":
        return expr.str.head(length or 1).str.pad_end(length or 1, " ")
    if name == "VARCHAR" and length is not None:
        return expr.str.head(length)
    if name.startswith("TIMESTAMP") and length is not None and length in _DIGITS:
        return expr.dt.truncate(_DIGITS[length])
    return expr


def cast(expr: pl.Expr, source: pl.DataType, target: pl.DataType, *, strict: bool = True) -> pl.Expr:
    """A cast as Flink does it: decimals are rounded half up, numbers are cut to whole ones, texts are trimmed.

    ``strict``: a value that does not fit ends the batch with an error; else it becomes null (TRY_CAST).
    """
    if source == target:
        return expr
    if source == pl.Null:
        return expr.cast(target)
    if target == pl.String:
        return _to_text(expr, source)
    if source == pl.String:
        return _from_text(expr, target, strict=strict)
    if isinstance(target, pl.Decimal):
        scaled = expr if source.is_integer() else expr.round(target.scale, mode="half_away_from_zero")
        return scaled.cast(target, strict=strict)
    if target.is_integer() and not source.is_integer() and source.is_numeric():
        return expr.cast(pl.Int64, strict=strict).cast(target, strict=strict)
    if source == pl.Boolean and target.is_numeric():
        return expr.cast(pl.Int8).cast(target)
    if isinstance(source, pl.Datetime) and isinstance(target, pl.Datetime) and source.time_zone != target.time_zone:
        return expr.dt.replace_time_zone(target.time_zone).cast(target, strict=strict)
    return expr.cast(target, strict=strict)


def _to_text(expr: pl.Expr, source: pl.DataType) -> pl.Expr:
    if source == pl.Boolean:
        return pl.when(expr).then(pl.lit("TRUE")).when(~expr).then(pl.lit("FALSE"))
    if isinstance(source, pl.Datetime):
        return expr.dt.strftime(f"%Y-%m-%d %H:%M:%S%.{_FRACTION[source.time_unit]}f")
    if source == pl.Binary:
        return expr.cast(pl.String, strict=False)
    if source.is_float():
        return _java_text(expr.cast(pl.String))
    return expr.cast(pl.String)


def _java_text(text: pl.Expr) -> pl.Expr:
    """A floating number as Java writes it: from 10^7 on, and below 10^-3, with an exponent."""
    parts = text.str.extract_groups(r"^(?<sign>-?)(?<whole>\d+)(?:\.(?<part>\d+))?(?:e(?<power>[+-]?\d+))?$").struct
    whole, part = parts.field("whole"), parts.field("part").fill_null("")
    digits = (whole + part).str.strip_chars_start("0")
    power = parts.field("power").fill_null("0").cast(pl.Int64)
    sizes = [each.str.len_chars().cast(pl.Int64) for each in (whole, part, digits)]
    size = power + pl.when(whole != "0").then(sizes[0] - 1).otherwise(sizes[2] - sizes[1] - 1)
    behind = digits.str.slice(1).str.strip_chars_end("0")
    behind = pl.when(behind != "").then(behind).otherwise(pl.lit("0"))
    written = pl.concat_str(
        parts.field("sign"), digits.str.head(1), pl.lit("."), behind, pl.lit("E"), size.cast(pl.String)
    )
    named = text.replace({"inf": "Infinity", "-inf": "-Infinity"})
    return pl.when((digits != "") & ((size >= 7) | (size < -3))).then(written).otherwise(named)


def _from_text(expr: pl.Expr, target: pl.DataType, *, strict: bool) -> pl.Expr:
    text = expr.str.strip_chars()
    if target == pl.Boolean:
        lower = text.str.to_lowercase()
        true, false = lower.is_in(["true", "t", "yes", "y", "1"]), lower.is_in(["false", "f", "no", "n", "0"])
        return pl.when(true).then(pl.lit(value=True)).when(false).then(pl.lit(value=False))
    if isinstance(target, pl.Decimal):
        wide = text.cast(pl.Decimal(38, min(target.scale + 6, 30)), strict=strict)
        return wide.round(target.scale, mode="half_away_from_zero").cast(target, strict=strict)
    if target == pl.Date:
        return text.str.head(10).str.to_date("%Y-%m-%d", strict=strict)
    if isinstance(target, pl.Datetime):
        return timestamp_of(text, target, strict=strict)
    if target == pl.Binary:
        return expr.cast(pl.Binary)
    if target == pl.Time:
        return text.str.to_time("%H:%M:%S%.f", strict=strict)
    if target.is_integer():
        return text.str.replace(r"^([+-]?\d+)\.\d*$", "$1").cast(target, strict=strict)
    return text.cast(target, strict=strict)


def timestamp_of(text: pl.Expr, target: pl.Datetime, *, strict: bool) -> pl.Expr:
    """``yyyy-MM-dd[ HH:mm[:ss[.fraction]]]`` as a timestamp."""
    plain = text.str.replace("T", " ", literal=True)
    full = (
        pl.when(plain.str.len_chars() == 10)
        .then(plain + " 00:00:00")
        .when(plain.str.len_chars() == 16)
        .then(plain + ":00")
        .otherwise(plain)
    )
    parsed = full.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=target.time_unit, strict=strict)
    return parsed if target.time_zone is None else parsed.dt.replace_time_zone(target.time_zone)

"""Flink's scalar functions as Polars expressions, by name. One table; what is not in it is refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.flink_sql.casts import cast, timestamp_of
from lakehouse_assets.flink_sql.decimals import quotient, rounded
from lakehouse_assets.flink_sql.values import Value

AGGREGATES: Final = frozenset(
    ("SUM", "COUNT", "MIN", "MAX", "AVG", "LAST_VALUE", "FIRST_VALUE", "LISTAGG", "COLLECT", "STDDEV_POP", "VAR_POP")
)
"""Functions of many rows."""
MILLIS: Final = pl.Datetime("ms")
_UNITS: Final[Mapping[str, str]] = {
    "SECOND": "1s", "MINUTE": "1m", "HOUR": "1h", "DAY": "1d", "WEEK": "1w", "MONTH": "1mo", "QUARTER": "3mo",
    "YEAR": "1y",
}  # fmt: skip
_FIELDS: Final[Mapping[str, Callable[[pl.Expr], pl.Expr]]] = {
    "YEAR": lambda time: time.dt.year(),
    "QUARTER": lambda time: time.dt.quarter(),
    "MONTH": lambda time: time.dt.month(),
    "WEEK": lambda time: time.dt.week(),
    "DAY": lambda time: time.dt.day(),
    "DAYOFMONTH": lambda time: time.dt.day(),
    "DOY": lambda time: time.dt.ordinal_day(),
    "DAYOFYEAR": lambda time: time.dt.ordinal_day(),
    "DOW": lambda time: time.dt.weekday() % 7 + 1,
    "DAYOFWEEK": lambda time: time.dt.weekday() % 7 + 1,
    "HOUR": lambda time: time.dt.hour(),
    "MINUTE": lambda time: time.dt.minute(),
    "SECOND": lambda time: time.dt.second(),
}
_PATTERN: Final[Mapping[str, str]] = {
    "yyyy": "%Y", "yy": "%y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S", "SSS": "%3f",
    "SSSSSS": "%6f", "SSSSSSSSS": "%9f",
}  # fmt: skip
_PIECES: Final = re.compile(r"'([^']*)'|([A-Za-z])\2*|[^A-Za-z']+")


class CannotCompute(ValueError):
    """A call that cannot be computed here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """``compute`` makes the expression from the arguments; ``least`` and ``most`` of them are taken."""

    compute: Callable[..., pl.Expr]
    least: int
    most: int
    steady: bool = True


def pattern_of(java: str) -> str:
    """A pattern of ``DATE_FORMAT`` (Java's letters) as Polars has it. Raises CannotCompute for other letters."""
    pieces = []
    for found in _PIECES.finditer(java):
        text = found.group()
        if text.startswith("'"):
            pieces.append((found.group(1) or "'").replace("%", "%%"))
        elif text[0].isalpha():
            if text not in _PATTERN:
                raise CannotCompute(f"the pattern {java!r} has {text!r}; known: {', '.join(_PATTERN)}")
            pieces.append(_PATTERN[text])
        else:
            pieces.append(text.replace("%", "%%"))
    return "".join(pieces)


def field_of(unit: str, time: Value) -> pl.Expr:
    """``EXTRACT(unit FROM time)`` as BIGINT. Raises CannotCompute."""
    if unit.upper() not in _FIELDS:
        raise CannotCompute(f"EXTRACT knows {', '.join(_FIELDS)}, not {unit}")
    return _FIELDS[unit.upper()](time.expr).cast(pl.Int64)


def shifted(time: pl.Expr, unit: str, count: pl.Expr) -> pl.Expr:
    """A time moved by a number of units. Raises CannotCompute."""
    step = _UNITS.get(unit.upper().removesuffix("S"))
    if step is None:
        raise CannotCompute(f"{unit} is no unit of time that is known here; known: {', '.join(_UNITS)}")
    number = 3 if step == "3mo" else 1
    return time.dt.offset_by(pl.format("{}" + step.lstrip("0123456789"), count * number))


def floored(time: pl.Expr, unit: str) -> pl.Expr:
    """The beginning of the unit that a time lies in; weeks begin on Sunday. Raises CannotCompute."""
    if unit.upper() not in _UNITS:
        raise CannotCompute(f"FLOOR(… TO …) knows {', '.join(_UNITS)}, not {unit}")
    if unit.upper() == "WEEK":
        return time.dt.offset_by("1d").dt.truncate("1w").dt.offset_by("-1d")
    return time.dt.truncate(_UNITS[unit.upper()])


def literal_text(value: Value) -> str:
    """The text of a literal argument. Raises CannotCompute for anything that changes from row to row."""
    if value.reads or value.dtype != pl.String:
        raise CannotCompute("a pattern must be a text in single quotes")
    return str(pl.select(value.expr).item())


def literal_number(value: Value) -> int:
    """The value of a literal argument. Raises CannotCompute for anything that changes from row to row."""
    if value.reads or not value.dtype.is_integer():
        raise CannotCompute("a length, a number of digits or of a group must be a whole number as it stands")
    return int(pl.select(value.expr).item())


def divided(left: Value, right: Value) -> pl.Expr:
    """``/``: whole numbers give whole ones, cut towards zero. By zero gives null."""
    if left.dtype.is_integer() and right.dtype.is_integer():
        return _whole_quotient(left.expr, right.expr)
    if left.dtype.is_float() or right.dtype.is_float():
        divisor = pl.when(right.expr != 0).then(right.expr)
        return left.expr.cast(pl.Float64) / divisor.cast(pl.Float64)
    return quotient(left, right)


def remainder(left: Value, right: Value) -> pl.Expr:
    """``%``: its sign is that of the dividend. By zero gives null."""
    divisor = pl.when(right.expr != 0).then(right.expr)
    size = left.expr.abs() % divisor.abs()
    return pl.when(left.expr < 0).then(-size).otherwise(size)


def _whole_quotient(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    quotient = left // right
    inexact = (quotient * right != left) & ((left < 0) != (right < 0))
    return quotient + inexact.cast(pl.Int8)


def _text(value: Value) -> pl.Expr:
    return cast(value.expr, value.dtype, pl.String())


def _concat(*parts: Value) -> pl.Expr:
    return pl.concat_str([_text(part) for part in parts])


def _concat_ws(separator: Value, *parts: Value) -> pl.Expr:
    return pl.concat_str([_text(part) for part in parts], separator=literal_text(separator), ignore_nulls=True)


def substring(text: Value, start: Value, length: Value | None = None) -> pl.Expr:
    """Characters from a position on, counted from 1; a negative one counts from the end."""
    size = text.expr.str.len_chars().cast(pl.Int64)
    at = start.expr.cast(pl.Int64)
    offset = pl.when(at > 0).then(at - 1).when(at < 0).then(size + at).otherwise(0)
    taken = None if length is None else length.expr.cast(pl.Int64)
    return text.expr.str.slice(offset, taken)


def _padded(text: Value, length: Value, fill: Value, *, left: bool) -> pl.Expr:
    width, pad = literal_number(length), literal_text(fill)
    if len(pad) != 1:
        raise CannotCompute("LPAD and RPAD are known with a single character to fill with")
    filled = text.expr.str.pad_start(width, pad) if left else text.expr.str.pad_end(width, pad)
    return filled.str.head(width)


def _date_format(time: Value, pattern: Value) -> pl.Expr:
    moment = time.expr if time.dtype.is_temporal() else timestamp_of(time.expr, MILLIS, strict=True)
    return moment.dt.strftime(pattern_of(literal_text(pattern)))


def _to_timestamp(text: Value, pattern: Value | None = None) -> pl.Expr:
    if pattern is None:
        return timestamp_of(text.expr, MILLIS, strict=False)
    known = pattern_of(literal_text(pattern)).replace(".%3f", "%.3f")
    return text.expr.str.to_datetime(known, time_unit="ms", strict=False)


def _to_date(text: Value, pattern: Value | None = None) -> pl.Expr:
    known = "%Y-%m-%d" if pattern is None else pattern_of(literal_text(pattern))
    return text.expr.str.to_date(known, strict=False)


def _from_unixtime(seconds: Value, pattern: Value | None = None) -> pl.Expr:
    moment = pl.from_epoch(seconds.expr.cast(pl.Int64), time_unit="s")
    return moment.dt.strftime("%Y-%m-%d %H:%M:%S" if pattern is None else pattern_of(literal_text(pattern)))


def _rounded(number: Value, digits: Value | None = None) -> pl.Expr:
    places = 0 if digits is None else literal_number(digits)
    if places < 0 and number.dtype.is_float():
        raise CannotCompute("digits before the point are rounded of whole numbers and decimals alone")
    return rounded(number, places)


def _nullif(left: Value, right: Value) -> pl.Expr:
    return pl.when((left.expr == right.expr).fill_null(value=False)).then(None).otherwise(left.expr)


def _extreme(*values: Value, greatest: bool) -> pl.Expr:
    """Null if one of them is."""
    expressions = [value.expr for value in values]
    known = pl.all_horizontal([each.is_not_null() for each in expressions])
    return pl.when(known).then(pl.max_horizontal(expressions) if greatest else pl.min_horizontal(expressions))


def _regexp_extract(text: Value, pattern: Value, group: Value | None = None) -> pl.Expr:
    return text.expr.str.extract(literal_text(pattern), 0 if group is None else literal_number(group))


def _split_index(text: Value, separator: Value, index: Value) -> pl.Expr:
    pieces = text.expr.str.split(literal_text(separator))
    return pieces.list.get(pl.when(index.expr >= 0).then(index.expr), null_on_oob=True)


def _json_value(text: Value, path: Value) -> pl.Expr:
    """A scalar at a path; of objects and lists, null."""
    given = literal_text(path).strip()
    known = given.removeprefix("lax ").lstrip()
    if not known.startswith("$"):
        raise CannotCompute(f"the path {given!r}: expected 'lax $.field'")
    found = text.expr.str.json_path_match(known)
    inner = [text.expr.str.json_path_match(known + each).is_not_null() for each in (".*", "[*]")]
    return pl.when(~(found.str.contains(r"^[{\[]") & pl.any_horizontal(*inner)) & ~found.is_in(["{}", "[]"])).then(
        found
    )


def _on_text(change: Callable[[pl.Expr], pl.Expr]) -> Function:
    return Function(compute=lambda text: change(_text(text)), least=1, most=1)


def _on_number(change: Callable[[pl.Expr], pl.Expr], *, exact: bool = False) -> Function:
    return Function(
        compute=lambda number: change(number.expr if exact else number.expr.cast(pl.Float64)), least=1, most=1
    )


def _field(unit: str) -> Function:
    return Function(compute=lambda time: field_of(unit, time), least=1, most=1)


FUNCTIONS: Final[Mapping[str, Function]] = {
    "UPPER": _on_text(lambda text: text.str.to_uppercase()),
    "LOWER": _on_text(lambda text: text.str.to_lowercase()),
    "TRIM": _on_text(lambda text: text.str.strip_chars(" ")),
    "LTRIM": _on_text(lambda text: text.str.strip_chars_start(" ")),
    "RTRIM": _on_text(lambda text: text.str.strip_chars_end(" ")),
    "BTRIM": _on_text(lambda text: text.str.strip_chars(" ")),
    "REVERSE": _on_text(lambda text: text.str.reverse()),
    "CHAR_LENGTH": _on_text(lambda text: text.str.len_chars().cast(pl.Int32)),
    "CHARACTER_LENGTH": _on_text(lambda text: text.str.len_chars().cast(pl.Int32)),
    "CONCAT": Function(compute=_concat, least=1, most=99),
    "CONCAT_WS": Function(compute=_concat_ws, least=2, most=99),
    "SUBSTR": Function(compute=substring, least=2, most=3),
    "SUBSTRING": Function(compute=substring, least=2, most=3),
    "LEFT": Function(compute=lambda text, size: text.expr.str.head(size.expr.clip(0)), least=2, most=2),
    "RIGHT": Function(compute=lambda text, size: text.expr.str.tail(size.expr.clip(0)), least=2, most=2),
    "LPAD": Function(compute=lambda *a: _padded(*a, left=True), least=3, most=3),
    "RPAD": Function(compute=lambda *a: _padded(*a, left=False), least=3, most=3),
    "REPLACE": Function(
        compute=lambda text, old, new: text.expr.str.replace_all(literal_text(old), new.expr, literal=True),
        least=3,
        most=3,
    ),
    "REGEXP": Function(compute=lambda text, rule: text.expr.str.contains(literal_text(rule)), least=2, most=2),
    "REGEXP_EXTRACT": Function(compute=_regexp_extract, least=2, most=3),
    "SPLIT_INDEX": Function(compute=_split_index, least=3, most=3),
    "JSON_VALUE": Function(compute=_json_value, least=2, most=2),
    "ABS": _on_number(lambda number: number.abs(), exact=True),
    "SQRT": _on_number(lambda number: number.sqrt()),
    "EXP": _on_number(lambda number: number.exp()),
    "LN": _on_number(lambda number: number.log()),
    "LOG10": _on_number(lambda number: number.log10()),
    "SIGN": _on_number(lambda number: number.sign(), exact=True),
    "POWER": Function(compute=lambda base, to: base.expr.cast(pl.Float64).pow(to.expr), least=2, most=2),
    "ROUND": Function(compute=_rounded, least=1, most=2),
    "MOD": Function(compute=remainder, least=2, most=2),
    "COALESCE": Function(compute=lambda *a: pl.coalesce([each.expr for each in a]), least=1, most=99),
    "IFNULL": Function(compute=lambda a, b: pl.coalesce([a.expr, b.expr]), least=2, most=2),
    "NULLIF": Function(compute=_nullif, least=2, most=2),
    "GREATEST": Function(compute=lambda *a: _extreme(*a, greatest=True), least=1, most=99),
    "LEAST": Function(compute=lambda *a: _extreme(*a, greatest=False), least=1, most=99),
    "DATE_FORMAT": Function(compute=_date_format, least=2, most=2),
    "TO_TIMESTAMP": Function(compute=_to_timestamp, least=1, most=2),
    "TO_DATE": Function(compute=_to_date, least=1, most=2),
    "FROM_UNIXTIME": Function(compute=_from_unixtime, least=1, most=2),
    **{unit: _field(unit) for unit in _FIELDS if unit not in ("DAY", "DOY", "DOW")},
}

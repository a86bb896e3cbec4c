"""Debezium's change events as JSON text, a whole file at a time: lines in, typed rows and refused lines out.

Every line is one event ``{"op", "before", "after", "ts_ms", "source": {"ts_ms"}}``; the row is ``after``, or
``before`` of a delete. Nothing is guessed: a line counts only if it is JSON, has exactly the table's columns,
and each value has the JSON type and the range of its column. What is certainly right is decoded in one go
(``debezium_columns``). The few lines that are left are taken apart by regular expressions that know JSON's
grammar, and texts are checked before they are cast: each line is judged by itself, and told why it is refused.

| column | JSON value |
|---|---|
| String | string |
| Int8, Int16, Int32, Int64 | integer |
| Float32, Float64 | number; the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` |
| Decimal(p, s) | string of at most p - s and s digits, such as ``"12.5000"`` |
| Date | string ``yyyy-mm-dd`` |
| Datetime(ms) | integer of epoch milliseconds, UTC, from 1970 on; string such as ``"1969-01-05T10:00:00.123"`` |
| Datetime(us), Datetime(ns) | string ``"2024-01-05T10:00:00.123456"``; of a moment (time zone UTC) ``"…Z"`` |
| Time | string ``"10:00:00.123"`` |
| Binary | string of base64 |
| Boolean | true, false |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.sources.change_source import (
    DELETE_OP,
    DELETED,
    EVENT_TIME,
    OP,
    OPERATIONS,
    REJECTED_SCHEMA,
    SourceTable,
)
from lakehouse_assets.sources.debezium_columns import certain_rows
from lakehouse_assets.sources.debezium_fields import (
    AT,
    BASE64,
    CLOCK_PATTERN,
    FRACTION_DIGITS,
    NUMBER,
    SPECIAL_NUMBERS,
    TIME_MS_MAX,
    clock,
    finite,
    moment,
    moment_pattern,
)
from lakehouse_assets.sources.errors import SourceUnsupported

LINE, RAW, REASON = "line", "raw", "reason"
SHOWN_CHARACTERS: Final = 50

SPACE: Final = r"[ \t\r]*"
_LOW_SURROGATE = r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_CODE_UNIT = (
    r"u(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"
    rf"|[dD][89abAB][0-9a-fA-F]{{2}}{_LOW_SURROGATE})"
)
_STRING = rf'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|{_CODE_UNIT}))*"'
SCALAR: Final = rf"(?:{_STRING}|{NUMBER}|true|false|null)"


def _object(value: str) -> str:
    """The grammar of an object whose values are of a grammar."""
    member = rf"{_STRING}{SPACE}:{SPACE}{value}{SPACE}"
    return rf"\{{{SPACE}(?:{member}(?:,{SPACE}{member})*)?\}}"


FLAT_OBJECT: Final = _object(SCALAR)
ENVELOPE: Final = _object(f"(?:{SCALAR}|{FLAT_OBJECT})")
_EVENT = rf"^{SPACE}{ENVELOPE}{SPACE}$"

# In a line that the grammar accepts, these find what they look for without checking it again.
_ANY_STRING = r'"(?:[^"\\]|\\.)*"'
_ANY_ROW = rf'\{{(?:[^"{{}}]|{_ANY_STRING})*\}}'
_ANY_VALUE: Final = rf"({_ANY_STRING}|[^,{{}}\s]+)"


def member(name: str) -> str:
    """The pattern of a member, its value's text in a group; the name is written without needless escapes."""
    return rf"{re.escape(json.dumps(name, ensure_ascii=False))}{SPACE}:{SPACE}{_ANY_VALUE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ValueRule:
    """How the JSON text of a value (never null) is checked and read.

    ``name``: the type in messages. ``pattern``: what the text must look like. ``read``: the text as the
    column's dtype; null if out of range.
    """

    name: str
    pattern: str
    read: Callable[[pl.Expr], pl.Expr]


def _unquoted(text: pl.Expr) -> pl.Expr:
    return text.str.slice(1, text.str.len_chars() - 2)


def _between(text: pl.Expr, low: int, high: int) -> pl.Expr:
    number = text.cast(pl.Int64, strict=False)
    return pl.when(number.is_between(low, high)).then(number)


def _decimal(dtype: pl.Decimal) -> _ValueRule:
    whole, scale = dtype.precision - dtype.scale, dtype.scale
    fraction = rf"(?:\.[0-9]{{1,{scale}}})?" if scale else ""
    return _ValueRule(
        name=f"DECIMAL({dtype.precision},{scale})",
        pattern=rf'^"-?[0-9]{{1,{whole}}}{fraction}"$',
        read=lambda text: _unquoted(text).cast(dtype, strict=False),
    )


def _whole(name: str, bits: int, dtype: pl.DataType) -> _ValueRule:
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return _ValueRule(name=name, pattern=_INTEGER, read=lambda text: _between(text, low, high).cast(dtype))


def _float(name: str, dtype: pl.DataType) -> _ValueRule:
    def read(text: pl.Expr) -> pl.Expr:
        special = _unquoted(text).replace_strict(SPECIAL_NUMBERS, default=None, return_dtype=dtype)
        return pl.when(text.str.starts_with('"')).then(special).otherwise(finite(text.cast(dtype, strict=False)))

    return _ValueRule(name=name, pattern=rf'^(?:{NUMBER}|"(?:{"|".join(SPECIAL_NUMBERS)})")$', read=read)


def _time(dtype: pl.Datetime) -> _ValueRule:
    name = "TIMESTAMP" if dtype.time_zone is None else "TIMESTAMP_LTZ"
    return _ValueRule(
        name=f"{name}({FRACTION_DIGITS[dtype.time_unit]})",
        pattern=f'^"{moment_pattern(dtype)}"$',
        read=lambda text: moment(_unquoted(text), dtype),
    )


def _milliseconds() -> _ValueRule:
    by_text = _time(_MILLISECONDS)

    def read(text: pl.Expr) -> pl.Expr:
        return pl.when(text.str.starts_with('"')).then(by_text.read(text)).otherwise(_EPOCH_MS.read(text))

    return _ValueRule(name=_EPOCH_MS.name, pattern=f"{by_text.pattern}|{_EPOCH_MS.pattern}", read=read)


_DAY: Final = r'^"[0-9]{4}-[0-9]{2}-[0-9]{2}"$'
_INTEGER: Final = r"^-?(?:0|[1-9][0-9]{0,18})$"
_MILLISECONDS: Final = pl.Datetime("ms")
_EPOCH_MS: Final = _ValueRule(
    name="TIMESTAMP(3)",
    pattern=_INTEGER,
    read=lambda text: _between(text, 0, TIME_MS_MAX).cast(_MILLISECONDS),
)
_RULES: Final[Mapping[pl.DataType, _ValueRule]] = {
    pl.String(): _ValueRule(name="STRING", pattern=r'^"', read=_unquoted),
    pl.Boolean(): _ValueRule(name="BOOLEAN", pattern=r"^(?:true|false)$", read=lambda text: text == "true"),
    pl.Int8(): _whole("TINYINT", 8, pl.Int8()),
    pl.Int16(): _whole("SMALLINT", 16, pl.Int16()),
    pl.Int32(): _whole("INT", 32, pl.Int32()),
    pl.Int64(): _ValueRule(name="BIGINT", pattern=_INTEGER, read=lambda text: text.cast(pl.Int64, strict=False)),
    pl.Date(): _ValueRule(
        name="DATE",
        pattern=_DAY,
        read=lambda text: _unquoted(text).str.to_date("%Y-%m-%d", strict=False),
    ),
    pl.Float32(): _float("FLOAT", pl.Float32()),
    pl.Float64(): _float("DOUBLE", pl.Float64()),
    pl.Time(): _ValueRule(name="TIME", pattern=f'^"{CLOCK_PATTERN}"$', read=lambda text: clock(_unquoted(text))),
    pl.Binary(): _ValueRule(
        name="BYTES", pattern=f'^"{BASE64}"$', read=lambda text: _unquoted(text).str.decode("base64", strict=False)
    ),
    _MILLISECONDS: _milliseconds(),
}


def _rule_of(table: SourceTable, column: str) -> _ValueRule:
    dtype = table.columns[column]
    if isinstance(dtype, pl.Decimal):
        return _decimal(dtype)
    if isinstance(dtype, pl.Datetime) and dtype != _MILLISECONDS:
        return _time(dtype)
    if dtype not in _RULES:
        raise SourceUnsupported(f"column {column} of {table.target} is {dtype}, which has no JSON form here")
    return _RULES[dtype]


def parse(lines: pl.DataFrame, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good rows, refused lines) of ``lines`` with the columns of ``REJECTED_SCHEMA`` but ``reason``.

    Good rows have the table's columns, ``op``, ``deleted`` and ``event_time`` (the change time); refused
    lines are of ``REJECTED_SCHEMA``. Blank lines are no events. Both keep the order of the lines. Raises
    SourceUnsupported for a column type that has no JSON form.
    """
    for name in table.columns:
        _rule_of(table, name)
    certain, left = certain_rows(_events(lines), RAW, table)
    good, bad = _judged_one_by_one(left, table)
    if certain.is_empty() or good.is_empty():
        return (good if certain.is_empty() else certain).drop(AT), bad
    return pl.concat([certain, good]).sort(AT).drop(AT), bad


def _events(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines that are not blank. Most begin with a brace, which is found out in no time."""
    if lines.get_column(RAW).str.starts_with("{").all():
        return lines
    return lines.filter(pl.col(RAW).str.contains(r"\S"))


def _judged_one_by_one(lines: pl.DataFrame, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(good rows with the ``AT`` of their lines, refused lines with the reason)."""
    wellformed = lines.with_columns(pl.col(RAW).str.contains(_EVENT).alias("_json"))
    events = _envelopes(wellformed.filter("_json"))
    texts, wrong = _judged(events, table)
    good = texts.select(
        AT,
        *(_read(texts, table, name).alias(name) for name in table.columns if name != EVENT_TIME),
        pl.col(OP),
        (pl.col(OP) == DELETE_OP).alias(DELETED),
        pl.col("_time").alias(EVENT_TIME),
    )
    bad = pl.concat(
        [
            wellformed.filter(~pl.col("_json")).with_columns(
                pl.lit("no JSON object in UTF-8, or one that is nested too deep").alias(REASON)
            ),
            wrong,
        ],
        how="diagonal",
    )
    return good, bad.select(REJECTED_SCHEMA.names()).cast(REJECTED_SCHEMA).sort("source_file", LINE)


def _envelopes(events: pl.DataFrame) -> pl.DataFrame:
    """Adds ``op``, ``_row`` (the text of the side that counts, null if it is no object) and ``_time``."""
    raw = pl.col(RAW)
    head = raw.str.replace_all(_ANY_ROW, "#")
    source = raw.str.extract(rf'"source"{SPACE}:{SPACE}({_ANY_ROW})')
    with_op = events.with_columns(
        head.str.extract(rf'"op"{SPACE}:{SPACE}"([^"]*)"').alias(OP),
        source.str.extract(member("ts_ms")).alias("_time_text"),
        raw.str.extract(rf'"after"{SPACE}:{SPACE}({_ANY_ROW})').alias("_row"),
    )
    deleted = pl.col(OP) == DELETE_OP
    before = with_op.filter(deleted).select(
        "source_file", LINE, raw.str.extract(rf'"before"{SPACE}:{SPACE}({_ANY_ROW})').alias("_before")
    )
    time = _EPOCH_MS
    if before.is_empty():
        sides = with_op.with_columns(pl.lit(None, pl.String).alias("_before"))
    else:
        sides = with_op.join(before, on=["source_file", LINE], how="left", maintain_order="left")
    return sides.with_columns(
        pl.when(deleted).then(pl.col("_before")).otherwise(pl.col("_row")).alias("_row"),
        pl.when(pl.col("_time_text").str.contains(time.pattern)).then(time.read(pl.col("_time_text"))).alias("_time"),
    )


def _judged(events: pl.DataFrame, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(events, those that break a rule with ``reason``: the first one), both with the JSON text of each column
    (``_text.<column>``). Reasons are looked for only where a cheaper look says that there is one.
    """
    texts = events.with_columns(
        pl.col("_row").str.extract(member(name)).alias(f"_text.{name}") for name in table.columns
    )
    right = texts.select(_is_right(table).fill_null(value=False).alias("right"))["right"]
    if right.all():
        return texts, texts.clear().with_columns(pl.lit(None, pl.String).alias(REASON))
    reasons = [
        _reason(~pl.col(OP).is_in(OPERATIONS).fill_null(value=False), pl.format("op is {}", _shown(OP))),
        _reason(
            pl.col("_row").is_null(),
            pl.when(pl.col(OP) == DELETE_OP)
            .then(pl.lit("before is no object"))
            .otherwise(pl.lit("after is no object")),
        ),
        _columns_reason(table),
        *(_value_reason(table, name) for name in table.columns),
        _reason(pl.col("_time").is_null(), pl.format("source.ts_ms is {}", _shown("_time_text"))),
    ]
    wrong = texts.filter(~right).rechunk()  # pl.format panics on a frame with empty chunks (Polars 2.1)
    return texts.filter(right), wrong.with_columns(pl.coalesce(reasons).alias(REASON))


def _is_right(table: SourceTable) -> pl.Expr:
    """Whether an event breaks no rule: what all the reasons together say, without their texts."""
    count = pl.col("_row").str.count_matches(rf"{_ANY_STRING}{SPACE}:")
    values = [
        ~_is_bad(table, name) if name in table.required else (pl.col(f"_text.{name}") == "null") | ~_is_bad(table, name)
        for name in table.columns
    ]
    named = [pl.col(f"_text.{name}").is_not_null() for name in table.columns]
    known = pl.col(OP).is_in(OPERATIONS) & pl.col("_row").is_not_null() & pl.col("_time").is_not_null()
    return pl.all_horizontal(known, count == len(table.columns), *named, *values)


def _is_bad(table: SourceTable, name: str) -> pl.Expr:
    """Whether the text of a column is no value of its type."""
    rule, text = _rule_of(table, name), pl.col(f"_text.{name}")
    bad = ~text.str.contains(rule.pattern) | rule.read(text).is_null()
    if name in table.days:
        bad = bad | _RULES[pl.Date()].read(text).is_null() | ~text.str.contains(_DAY)
    return bad


def _reason(broken: pl.Expr, text: pl.Expr) -> pl.Expr:
    return pl.when(broken).then(text)


def _shown(column: str) -> pl.Expr:
    """A value in a message: short, and without control characters."""
    return pl.col(column).str.slice(0, SHOWN_CHARACTERS).str.replace_all(r"[[:cntrl:]]", "?").fill_null("missing")


def _columns_reason(table: SourceTable) -> pl.Expr:
    """Missing columns, then unknown or repeated ones."""
    names = list(table.columns)
    missing = pl.concat_list(
        pl.when(pl.col(f"_text.{name}").is_null()).then(pl.lit(name)) for name in names
    ).list.drop_nulls()
    members = pl.col("_row").str.extract_all(rf"{_ANY_STRING}{SPACE}:")
    unknown = (
        members.list.eval(
            pl.element().str.extract(rf"^({_ANY_STRING})").str.strip_chars('"').str.slice(0, SHOWN_CHARACTERS)
        )
        .list.set_difference(
            pl.lit(pl.Series([[json.dumps(name, ensure_ascii=False)[1:-1] for name in names]])).first()
        )
        .list.sort()
    )
    count = pl.col("_row").str.count_matches(rf"{_ANY_STRING}{SPACE}:")
    return (
        pl.when(missing.list.len() > 0)
        .then(pl.format("missing columns: {}", missing.list.join(", ")))
        .when(count != len(names))
        .then(pl.format("unknown or repeated columns: {}", unknown.list.join(", ")))
    )


def _value_reason(table: SourceTable, name: str) -> pl.Expr:
    rule, text = _rule_of(table, name), pl.col(f"_text.{name}")
    bad = _is_bad(table, name)
    type_name = "day" if name in table.days else rule.name
    wrong = pl.concat_str(pl.lit(f"{name} is no {type_name}: "), _shown(f"_text.{name}"))
    if name in table.required:
        null = pl.when(text == "null").then(pl.lit(f"{name} is null"))
    else:
        null = pl.when(text == "null").then(pl.lit(None, pl.String))
    return null.when(bad).then(wrong)


def _read(judged: pl.DataFrame, table: SourceTable, name: str) -> pl.Expr:
    text = pl.col(f"_text.{name}")
    text = pl.when(text != "null").then(text)
    if table.columns[name] == pl.String() and judged[f"_text.{name}"].str.contains("\\", literal=True).any():
        return text.str.json_decode(pl.String())
    return _rule_of(table, name).read(text)

"""The columns of a Parquet file in the types of their table: what says the same is cast, rows with what does not are refused.

| the table's type | what is cast to it beside what a write takes (``storage_engine.kernel.convert``) |
|---|---|
| integers, DECIMAL, FLOAT, DOUBLE | texts of such a number; floats and decimals |
| BOOLEAN | texts ``true`` and ``false`` |
| STRING | integers, days, bytes of UTF-8 |
| DATE | timestamps at midnight, texts ``yyyy-mm-dd`` |
| TIMESTAMP | texts such as ``2024-01-05 10:00:00.123``, in UTC |

A value is cast only if nothing of it is lost. A float is the number that its shortest text says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Final

import polars as pl

from lakehouse_assets.schema_following import engine_type
from lakehouse_assets.sources.change_source import OP, SourceTable
from lakehouse_assets.sources.debezium import SHOWN_CHARACTERS
from lakehouse_assets.sources.debezium_fields import FRACTION_DIGITS, NUMBER, SPECIAL_NUMBERS, day, field_of
from lakehouse_assets.sources.landing_formats import decoded
from lakehouse_assets.sources.typed_rows import EVENT, REASON, as_event, json_member, json_text
from storage_engine.errors import InvalidSchema
from storage_engine.kernel.convert import convert
from storage_engine.spec.type_casts import is_lossless_cast

_SIGNED: Final[Mapping[pl.DataType, pl.DataType]] = {
    pl.UInt8(): pl.Int16(),
    pl.UInt16(): pl.Int32(),
    pl.UInt32(): pl.Int64(),
    pl.UInt64(): pl.Decimal(20, 0),
}
"""What holds the values of unsigned types, which tables do not have."""
_BAD, _GIVEN = "_bad.", "_given."
_INTEGER: Final = r"^-?[0-9]+$"
_NUMBER: Final = r"^-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$"
_MOMENT: Final = r"^([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?))?(?:Z|\+00:00)?$"
_FRACTION: Final = r"\.([0-9]*?)0*(?:Z|\+00:00)?$"


def columns_told(table: SourceTable, found: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """A file's columns as far as they concern the table's schema: a type that is cast counts as the table's own.

    What is wider than the table's is told, so that the table may be widened; but not of keys, which cannot be, nor what tells
    of the writer alone: units of time, and floats for integers (pandas has such where values are missing). A column that
    the table does not have and that holds nothing but nulls has no type, and is left out. A table whose types do not follow
    is never widened.
    """
    told: dict[str, pl.DataType] = {}
    for name, dtype in found.items():
        known = table.columns.get(name)
        if name == OP or (known is None and dtype == pl.Null()):
            continue
        if known is None:
            told[name] = _SIGNED.get(dtype, dtype)
        else:
            is_told = table.follows and name not in table.key and _is_wider(name, dtype, known)
            told[name] = dtype if is_told else known
    return told


def _is_wider(name: str, dtype: pl.DataType, known: pl.DataType) -> bool:
    if dtype.is_temporal() or (dtype.is_float() and known.is_integer()):
        return False
    try:
        wider, current = engine_type(name, dtype), engine_type(name, known)
    except InvalidSchema:
        return False
    return wider != current and is_lossless_cast(current, wider)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """A column in the table's type. ``bad`` marks values that it cannot hold (None: there are none); ``refusal``: their reason
    up to the value.
    """

    values: pl.Series
    bad: pl.Series | None = None
    refusal: str = ""


def fitted(table: SourceTable, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows in the table's types, with ``op``; with ``_reason`` and ``_event`` (``typed_rows``) where some are refused.

    ``rows``: ``op`` (String), the table's columns, perhaps others, which are left out.
    """
    fits = {name: _fit(rows.get_column(name), dtype) for name, dtype in table.columns.items()}
    cast = pl.DataFrame([rows.get_column(OP), *(fit.values for fit in fits.values())])
    bad = {name: fit.bad for name, fit in fits.items() if fit.bad is not None and fit.bad.any()}
    if not bad:
        return cast
    marks = pl.DataFrame([marked.alias(f"{_BAD}{name}") for name, marked in bad.items()])
    refused = marks.select(pl.any_horizontal(pl.all())).to_series()
    given = [_given(column, table.columns[column.name]) for column in rows.select(*bad).filter(refused)]
    notes = _notes(table, cast.filter(refused).hstack(marks.filter(refused)).hstack(given), fits)
    places = pl.select(pl.when(refused).then(refused.cast(pl.Int64).cum_sum() - 1)).to_series()
    return cast.hstack(notes.select(pl.all().gather(places)))


def _notes(table: SourceTable, refused: pl.DataFrame, fits: Mapping[str, _Fit]) -> pl.DataFrame:
    """Why rows are refused, and their events with the values that were given."""
    reasons: list[pl.Expr] = []
    members: dict[str, pl.Expr] = {}
    for name, dtype in table.columns.items():
        member = json_member(name, dtype)
        if f"{_BAD}{name}" in refused.columns:
            marked, given = pl.col(f"{_BAD}{name}"), pl.col(f"{_GIVEN}{name}")
            member = pl.when(marked).then(given).otherwise(member)
            shown = given.str.slice(0, SHOWN_CHARACTERS).str.replace_all(r"[[:cntrl:]]", "?")
            reasons.append(pl.when(marked).then(pl.concat_str(pl.lit(fits[name].refusal), shown)))
        members[name] = member
    return refused.select(pl.coalesce(reasons).alias(REASON), as_event(table, refused, members).alias(EVENT))


def _given(values: pl.Series, wanted: pl.DataType) -> pl.Series:
    """Values as JSON text that loses nothing of them, as ``_given.<name>``: times and infinite numbers are texts, and texts are
    numbers where such are wanted, so that they may be replayed once the column holds them.
    """
    value, dtype = pl.col(values.name), values.dtype
    if isinstance(dtype, pl.Datetime):
        text = json_text(value.dt.to_string("iso:strict"))
    elif "Binary" in str(dtype) and dtype.is_nested():  # which Polars does not write as JSON
        text = json_text(pl.lit(str(dtype)))
    else:
        text = json_member(values.name, dtype)
    if dtype == pl.String() and (wanted.is_integer() or wanted.is_float()):
        text = pl.when(value.str.contains(f"^{NUMBER}$")).then(value).otherwise(text)
    return values.to_frame().select(text.alias(f"{_GIVEN}{values.name}")).to_series()


def _fit(values: pl.Series, dtype: pl.DataType) -> _Fit:
    if values.dtype == dtype:
        return _Fit(values=values)
    given = values.dtype
    wanted = engine_type(values.name, dtype)
    refusal = f"{values.name} is no {wanted.sql}: "
    values = values.cast(pl.String) if given in (pl.Categorical, pl.Enum) else values
    written = convert(values, wanted)
    if written is not None:
        return _Fit(values=written.values, bad=written.bad, refusal=refusal)
    cast = _cast(values, dtype)
    if cast is not None:
        return _Fit(values=cast, bad=cast.is_null() & values.is_not_null(), refusal=refusal)
    return _Fit(
        values=pl.Series(values.name, [None], dtype=dtype).new_from_index(0, len(values)),
        bad=pl.Series([True]).new_from_index(0, len(values)),
        refusal=f"{values.name} is no {wanted.sql}, which {given} of the file cannot become: ",
    )


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series | None:
    """Values in a type, null where one is none of it; None if none could be."""
    for is_source, is_target, cast in _CASTS:
        if is_source(values.dtype) and is_target(dtype):
            expression = cast(pl.col(values.name), values.dtype, dtype)
            return values.to_frame().select(expression.alias(values.name)).to_series()
    return None


def _there_and_back(value: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    cast = value.cast(target, strict=False)
    return pl.when(cast.cast(source, strict=False) == value).then(cast)


def _by_text(value: pl.Expr, source: pl.DataType, target: pl.DataType) -> pl.Expr:
    cast = value.cast(pl.String).cast(target, strict=False)
    return pl.when(cast.cast(pl.String).cast(source, strict=False) == value).then(cast)


def _plainly(value: pl.Expr, _: pl.DataType, target: pl.DataType) -> pl.Expr:
    return value.cast(target, strict=False)


def _text_in(value: pl.Expr, _: pl.DataType, __: pl.DataType) -> pl.Expr:
    return value.map_batches(decoded, return_dtype=pl.String())


def _to_day(value: pl.Expr, _: pl.DataType, __: pl.DataType) -> pl.Expr:
    local = value.dt.replace_time_zone(None)
    return pl.when(local == local.dt.truncate("1d")).then(local.dt.date())


def _number_in(text: pl.Expr, _: pl.DataType, target: pl.DataType) -> pl.Expr:
    if target.is_integer():
        whole = text.str.replace(r"^(-?[0-9]+)\.0+$", "$1")
        return pl.when(whole.str.contains(_INTEGER)).then(whole).cast(target, strict=False)
    number = pl.when(text.str.contains(_NUMBER)).then(text).cast(target, strict=False)
    return pl.coalesce(
        pl.when(number.is_finite()).then(number),
        text.replace_strict(SPECIAL_NUMBERS, default=None, return_dtype=target),
    )


def _decimal_in(text: pl.Expr, _: pl.DataType, target: pl.DataType) -> pl.Expr:
    return field_of(target).read(text)


def _boolean_in(text: pl.Expr, _: pl.DataType, target: pl.DataType) -> pl.Expr:
    return text.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None, return_dtype=target)


def _day_in(text: pl.Expr, _: pl.DataType, __: pl.DataType) -> pl.Expr:
    return day(text)


def _moment_in(text: pl.Expr, _: pl.DataType, target: pl.DataType) -> pl.Expr:
    assert isinstance(target, pl.Datetime)
    parts = text.str.extract_groups(_MOMENT).struct
    whole = pl.concat_str(parts.field("1"), pl.lit(" "), parts.field("2").fill_null("00:00:00"))
    moment = whole.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit=target.time_unit, strict=False)
    digits = text.str.extract(_FRACTION).str.len_bytes().fill_null(0)
    return pl.when(digits <= FRACTION_DIGITS[target.time_unit]).then(moment.dt.replace_time_zone(target.time_zone))


def _is(*kinds: type[pl.DataType]) -> Callable[[pl.DataType], bool]:
    return lambda dtype: isinstance(dtype, kinds)


_is_integer, _is_float, _is_numeric = (methodcaller(name) for name in ("is_integer", "is_float", "is_numeric"))


def _is_utc(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Datetime) and dtype.time_zone in (None, "UTC")


_Cast = Callable[[pl.Expr, pl.DataType, pl.DataType], pl.Expr]
_CASTS: Final[Sequence[tuple[Callable[[pl.DataType], bool], Callable[[pl.DataType], bool], _Cast]]] = (
    (_is(pl.String), _is(pl.Decimal), _decimal_in),
    (_is(pl.String), _is_numeric, _number_in),
    (_is(pl.String), _is(pl.Boolean), _boolean_in),
    (_is(pl.String), _is(pl.Date), _day_in),
    (_is(pl.String), _is(pl.Datetime), _moment_in),
    (_is_float, _is_integer, _there_and_back),
    (_is(pl.Decimal), _is_integer, _there_and_back),
    (_is_float, _is(pl.Decimal), _by_text),
    (_is(pl.Decimal), _is_float, _by_text),
    (_is_utc, _is(pl.Date), _to_day),
    (_is_integer, _is(pl.String), _plainly),
    (_is(pl.Date), _is(pl.String), _plainly),
    (_is(pl.Binary), _is(pl.String), _text_in),
)
"""Which types become which, and how."""

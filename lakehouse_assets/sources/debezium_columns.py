"""Debezium's lines as columns: one decoding of many lines by Arrow's JSON reader, for those that are certainly right.

Lines of a usual shape (``debezium_shapes``) are read before; Arrow is asked for the rest.

Arrow refuses what is no JSON, values of another JSON type, members that come twice and integers that do not fit; but it
refuses for a whole block, tells no missing member from a null, and reads two objects of a line as two rows. So lines are
looked at before, blocks that it refuses are halved until few lines are left, and each row is checked after. A line that is not
certain here is not wrong: ``debezium`` judges it by itself, and says why it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Final

import polars as pl
import pyarrow as pa
from pyarrow import json as arrow_json

from lakehouse_assets.sources.change_source import DELETE_OP, OP, OPERATIONS, SourceTable
from lakehouse_assets.sources.debezium_fields import AT, READ, TIME, TIME_FIELD, day, field_of, results
from lakehouse_assets.sources.debezium_shapes import rows_by_shape

_THERE, _RAW = "_change.there", "_change.raw"
_SMALLEST_BLOCK: Final = 64
_PARTS: Final = 8
_BLOCK_BYTES: Final = 4 << 20


def certain_rows(lines: pl.DataFrame, raw: str, table: SourceTable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """(rows of lines that are certainly right, lines that somebody else must judge), both with ``AT``.

    ``raw`` is the column of ``lines`` that holds their texts, none of them blank. Rows have the table's columns, ``op``,
    ``deleted`` and ``event_time``. REQUIRES: every column's dtype has a JSON form.
    """
    numbered = lines.with_row_index(AT)
    found, left = rows_by_shape(numbered, raw, table)
    fits = left.filter(_is_one_object(pl.col(raw)))
    decoder = _Decoder(table)
    shapes = len(found)
    found += [decoder.rows(block, raw) for block in _halved(fits, raw, decoder)]
    rows = pl.concat(found) if found else decoder.rows_of_nothing()
    if shapes and len(found) > 1:
        rows = rows.sort(AT)
    if rows.height == numbered.height:
        return rows, numbered.clear()
    return rows, numbered.join(rows, on=AT, how="anti", maintain_order="left")


def _is_one_object(text: pl.Expr) -> pl.Expr:
    """Whether a line begins and ends as an object: none can then begin in one line and end in another."""
    bare = text.str.strip_chars(" \t\r")
    return bare.str.starts_with("{") & bare.str.ends_with("}") & ~text.str.contains("\n", literal=True)


def _halved(lines: pl.DataFrame, raw: str, decoder: _Decoder) -> Iterator[_Block]:
    """Blocks that Arrow reads, of as many lines as can be; small ones that it does not read are left out."""
    if lines.is_empty():
        return
    decoded = decoder.decoded(lines[raw])
    if decoded is not None:
        yield _Block(lines=lines, decoded=decoded)
    elif lines.height > _SMALLEST_BLOCK:
        step = -(-lines.height // _PARTS)
        for part in lines.iter_slices(step):
            yield from _halved(part, raw, decoder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Lines, and what Arrow made of them: a row each."""

    lines: pl.DataFrame
    decoded: pl.DataFrame


class _Decoder:
    """Decodes lines of one table."""

    def __init__(self, table: SourceTable) -> None:
        self._table = table
        self._fields = {name: field_of(dtype) for name, dtype in table.columns.items()}
        self._row = pa.struct([(name, field.asked) for name, field in self._fields.items()])
        self._schema = pa.schema(
            {"before": self._row, "after": self._row, "op": pa.string(), "source": pa.struct({"ts_ms": pa.int64()})}
        )

    def decoded(self, texts: pl.Series) -> pl.DataFrame | None:
        """The envelopes of some lines, or None if one of them is not what is asked for."""
        content = texts.str.join("\n").cast(pl.Binary).item()
        try:
            found = arrow_json.read_json(
                pa.BufferReader(content),
                read_options=arrow_json.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=arrow_json.ParseOptions(explicit_schema=self._schema, unexpected_field_behavior="infer"),
            )
        except pa.ArrowInvalid:
            return None
        sides = (found.schema.field(side).type for side in ("before", "after"))
        if found.num_rows != len(texts) or any(side != self._row for side in sides) or not _is_flat(found):
            return None
        frame = pl.from_arrow(found.select(self._schema.names))
        return frame if isinstance(frame, pl.DataFrame) else None

    def rows(self, block: _Block, raw: str) -> pl.DataFrame:
        """The rows of a block that are certainly right."""
        deleted = pl.col("op") == DELETE_OP
        side = pl.col("after")
        if block.decoded.select(deleted.any()).item():
            side = pl.when(deleted).then(pl.col("before")).otherwise(pl.col("after"))
        images = block.decoded.select(
            pl.col("op").alias(OP),
            TIME_FIELD.read(pl.col("source").struct.field("ts_ms")).alias(TIME),
            side.alias("_side"),
        )
        texts = images.select(OP, TIME, pl.col("_side").is_not_null().alias(_THERE), pl.col("_side").struct.unnest())
        return self._right(texts.hstack([block.lines[AT], block.lines[raw].alias(_RAW)]))

    def _right(self, texts: pl.DataFrame) -> pl.DataFrame:
        names = list(self._table.columns)
        read = texts.with_columns(self._fields[name].read(pl.col(name)).alias(f"{READ}{name}") for name in names)
        right = pl.col(OP).is_in(OPERATIONS) & pl.col(TIME).is_not_null() & pl.col(_THERE)
        right = reduce(and_, (self._is_value(name) for name in names), right).fill_null(value=False)
        optional = [name for name in names if name not in self._table.required]
        if optional and sum(read[name].null_count() for name in optional):
            absent = pl.any_horizontal(pl.col(name).is_null() for name in optional)
            right = right & (~absent | self._tells_all())
        return read.filter(right).select(AT, *results(names))

    def _is_value(self, name: str) -> pl.Expr:
        value, read = pl.col(name), pl.col(f"{READ}{name}")
        valid = read.is_not_null() if name in self._table.required else value.is_null() | read.is_not_null()
        return valid & day(value).is_not_null() if name in self._table.days else valid

    def _tells_all(self) -> pl.Expr:
        """Whether a row with nulls has all members: its text then has as many quotes as names and strings need.

        True only where that is certain, which it is not if a text has braces or escapes.
        """
        strings = [name for name, field in self._fields.items() if field.asked == pa.string()]
        told = len(self._fields) + pl.sum_horizontal([pl.lit(0), *(pl.col(name).is_not_null() for name in strings)])
        side = pl.when(pl.col(OP) == DELETE_OP).then(_object_of("before")).otherwise(_object_of("after"))
        plain = ~pl.col(_RAW).str.contains("\\", literal=True)
        return plain & (side.str.count_matches('"', literal=True) == 2 * told).fill_null(value=False)

    def rows_of_nothing(self) -> pl.DataFrame:
        """No rows, with the columns that rows have."""
        texts = pl.from_arrow(pa.schema([*self._row]).empty_table())
        assert isinstance(texts, pl.DataFrame)
        empty = texts.select(
            pl.lit(None, pl.String).alias(OP),
            pl.lit(None, pl.Datetime("ms")).alias(TIME),
            pl.lit(value=False).alias(_THERE),
            pl.lit(0, pl.get_index_type()).alias(AT),
            pl.lit(None, pl.String).alias(_RAW),
            pl.all(),
        )
        return self._right(empty.clear())


def _object_of(side: str) -> pl.Expr:
    return pl.col(_RAW).str.extract(rf'"{side}"[ \t\r]*:[ \t\r]*(\{{[^{{}}]*\}})')


def _is_flat(found: pa.Table) -> bool:
    """Whether members that nobody asked for are numbers of JSON, texts, or objects of such."""
    for column, name in zip(found.columns, found.column_names, strict=True):
        if name in ("before", "after", "op"):
            continue
        leaves = [column] if not pa.types.is_struct(column.type) else column.flatten()
        if not all(_is_scalar(leaf) for leaf in leaves):
            return False
    return True


def _is_scalar(values: pa.ChunkedArray) -> bool:
    if pa.types.is_nested(values.type):
        return False
    return not pa.types.is_floating(values.type) or bool(pl.Series(values).is_finite().all())

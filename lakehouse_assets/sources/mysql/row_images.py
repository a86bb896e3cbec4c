"""The rows of an event of the binary log, before and after it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final

from pymysqlreplication.constants import FIELD_TYPE, NONE_SOURCE
from pymysqlreplication.packet import BinLogPacketWrapper
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent, UpdateRowsEvent, WriteRowsEvent

from lakehouse_assets.sources.errors import SourceUnsupported
from lakehouse_assets.sources.mysql.tables import RowImages, TableColumns

_OPS: Final[dict[type[RowsEvent], str]] = {WriteRowsEvent: "c", UpdateRowsEvent: "u", DeleteRowsEvent: "d"}


def row_images(columns: TableColumns, event: RowsEvent) -> RowImages:
    """An event's rows, in order, without their positions. Raises SourceUnsupported for a value that cannot be read."""
    # the driver's own reading of JSON tells neither the types of its values nor null from the document ``null``
    event.packet.read_binary_json = partial(_document, event.packet)
    before, after = ("before_", "after_") if isinstance(event, UpdateRowsEvent) else ("", "")
    rows = event.rows
    for side in {before, after} if columns.sets else ():
        _restore_empty_sets(columns, rows, side)
    images = RowImages(
        ops=[_OPS[type(event)]] * len(rows),
        befores=[row[f"{before}values"] for row in rows],
        afters=[row[f"{after}values"] for row in rows],
    )
    _check_times(columns, event, images)
    return images


def _document(packet: BinLogPacketWrapper, length_bytes: int, _partial: bool) -> bytes:
    """A JSON value as its bytes."""
    value: bytes = packet.read(packet.read_uint_by_size(length_bytes))
    return value


def _restore_empty_sets(columns: TableColumns, rows: list[dict[str, Any]], side: str) -> None:
    """The driver makes a set without members null, and notes it."""
    for row in rows:
        for name, why in row[f"{side}none_sources"].items():
            if name in columns.sets and why == NONE_SOURCE.EMPTY_SET:
                row[f"{side}values"][name] = set()


def _check_times(columns: TableColumns, event: RowsEvent, images: RowImages) -> None:
    """Raise for negative times with fractions, which the driver reads as other ones."""
    names = [column.name for column in event.columns if column.type == FIELD_TYPE.TIME2 and column.fsp]
    for name in names:
        values = [row[name] for side in (images.befores, images.afters) for row in side]
        if any(isinstance(value, timedelta) and value < timedelta() for value in values):
            raise SourceUnsupported(
                f"column {columns.name}.{name} has a negative time with fractions of seconds, which cannot be read from"
                " the binary log; keep it as a number, or as TIME without fractions",
                table=columns.name,
            )

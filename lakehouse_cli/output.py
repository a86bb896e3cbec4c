"""Frames on a terminal: as a table, as JSON lines or as CSV, with every value rendered faithfully."""

from __future__ import annotations

import json
import sys
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Literal

import polars as pl
from rich.console import Console
from rich.table import Table

Format = Literal["table", "json", "csv"]


def show(frame: pl.DataFrame, *, output_format: Format, title: str | None = None) -> None:
    """Print a frame to stdout."""
    match output_format:
        case "json":
            for row in frame.iter_rows(named=True):
                sys.stdout.write(json.dumps(row, default=_plain, ensure_ascii=False) + "\n")
        case "csv":
            sys.stdout.write(_flat(frame).write_csv())
        case "table":
            _show_table(frame, title)


def _show_table(frame: pl.DataFrame, title: str | None) -> None:
    table = Table(title=title, title_justify="left", header_style="bold", show_lines=False)
    for name, dtype in frame.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(_text(value) for value in row))
    Console(highlight=False, markup=False).print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    plain = _plain(value) if not isinstance(value, str | int | float | bool) else value
    return plain if isinstance(plain, str) else json.dumps(plain, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it: decimals and times as text, bytes as hex."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime() | date() | time():
            return value.isoformat()
        case bytes():
            return value.hex()
        case _:
            return value


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """Nested and binary columns as text, since CSV has neither."""
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested() or dtype == pl.Binary]
    texts = [
        pl.Series(
            name, [None if value is None else json.dumps(value, default=_plain) for value in frame[name].to_list()]
        )
        for name in nested
    ]
    return frame.with_columns(texts)

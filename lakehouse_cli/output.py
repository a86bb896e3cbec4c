"""Frames on a terminal or in a pipe: as a table, as JSON or as CSV, with every value in full.

Decimals keep their digits, timestamps their precision (nanoseconds too) and zone, bytes are hex. Nothing that a table holds
can steer the terminal: control characters are shown, not sent.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Literal

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

Format = Literal["table", "json", "csv"]
NULL = "null"
LEAST_COLUMN_WIDTH = 8
_PADDING = 3
_HEIGHT = 25  # of no meaning here, but rich takes a given width only together with it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_TIMESTAMP = "%Y-%m-%dT%H:%M:%S"
_FRACTIONS = {"ms": "%.3f", "us": "%.6f", "ns": "%.9f"}


def show(frame: pl.DataFrame, *, output_format: Format) -> None:
    """Print a frame to stdout; JSON is one array of objects, CSV has a header."""
    exact = frame.with_columns(_timestamps(frame))
    match output_format:
        case "json":
            sys.stdout.write(_json_array(exact))
        case "csv":
            sys.stdout.write(_csv(exact))
        case "table":
            _show_table(exact)


def _timestamps(frame: pl.DataFrame) -> list[pl.Expr]:
    """Timestamps as text with the digits of their unit; Python's own have no nanoseconds."""
    return [
        pl.col(name).dt.strftime(_TIMESTAMP + _FRACTIONS[dtype.time_unit] + ("%:z" if dtype.time_zone else ""))
        for name, dtype in frame.schema.items()
        if isinstance(dtype, pl.Datetime)
    ]


def _json_array(frame: pl.DataFrame) -> str:
    rows = [json.dumps(_plain(row), ensure_ascii=False) for row in frame.iter_rows(named=True)]
    return "[" + ",\n ".join(rows) + "]\n"


def _csv(frame: pl.DataFrame) -> str:
    """Nested values as JSON, since CSV has none."""
    texts = [
        pl.Series(name, [_csv_text(value) for value in frame[name].to_list()], pl.String)
        for name, dtype in frame.schema.items()
        if dtype.is_nested() or dtype.is_temporal() or dtype == pl.Binary
    ]
    return frame.with_columns(texts).write_csv()


def _csv_text(value: Any) -> str | None:
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _show_table(frame: pl.DataFrame) -> None:
    columns = [[_cell(value) for value in frame[name].to_list()] for name in frame.columns]
    widths = [_width(name, cells) for name, cells in zip(frame.columns, columns, strict=True)]
    natural = sum(widths) + _PADDING * len(widths) + 1
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else natural
    console = Console(highlight=False, markup=False, emoji=False, width=max(terminal, 1), height=_HEIGHT)
    least = sum(min(width, LEAST_COLUMN_WIDTH) + _PADDING for width in widths) + 1
    if least <= console.width:
        console.print(_grid(frame, columns))
    else:
        _show_records(console, frame.columns, columns)


def _width(name: str, cells: list[Text]) -> int:
    return max([Text(name).cell_len, *(cell.cell_len for cell in cells)])


def _grid(frame: pl.DataFrame, columns: list[list[Text]]) -> Table:
    table = Table(header_style="bold")
    for name, dtype in frame.schema.items():
        table.add_column(Text(_shown(name)), justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for cells in zip(*columns, strict=True):
        table.add_row(*cells)
    return table


def _show_records(console: Console, names: list[str], columns: list[list[Text]]) -> None:
    """One line a value, for frames with more columns than the terminal can hold side by side."""
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        grid = Table(show_header=False, box=None, pad_edge=False)
        grid.add_column(style="bold", overflow="fold", max_width=console.width // 2)
        grid.add_column(overflow="fold")
        for name, cell in zip(names, cells, strict=True):
            grid.add_row(Text(_shown(name)), cell)
        console.rule(f"{number}", align="left", characters="─")
        console.print(grid)


def _cell(value: Any) -> Text:
    if value is None:
        return Text(NULL, style="dim")
    plain = _plain(value)
    return Text(_shown(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)))


def _shown(text: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], text)


def _plain(value: Any) -> Any:
    """A value as JSON has it: decimals, times and infinite numbers as text, bytes as hex."""
    match value:
        case Decimal():
            return format(value, "f")
        case float():
            return value if isfinite(value) else str(value)
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return str(value)
        case bytes():
            return value.hex()
        case dict():
            return {key: _plain(part) for key, part in value.items()}
        case list() | tuple():
            return [_plain(part) for part in value]
        case pl.Series():
            return [_plain(part) for part in value.to_list()]
        case _:
            return value

"""What the main job prints in the end: the APP tables, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from lakehouse_demo.app_tables import MEMBER_GROWTH, SPRINT_PERFORMANCE, AppTable
from lakehouse_demo.feeds import Finding
from storage_engine import Catalog

SHOWN_ROWS: Final = 10


def print_app_tables(console: Console, catalog: Catalog) -> None:
    """Print the best rows of the APP tables."""
    _print_best(console, catalog, SPRINT_PERFORMANCE, by="score", in_words="the highest scores")
    _print_best(console, catalog, MEMBER_GROWTH, by="new_members", in_words="the most new members")


def print_findings(console: Console, findings: Sequence[Finding], *, truth: str) -> None:
    """Print what is equal to the truth, and what is not."""
    for finding in findings:
        if not finding.differences:
            console.print(f"[bold green]✓[/] {finding.name} equals {truth}", highlight=False)
            continue
        console.print(f"[bold red]✗[/] {finding.name} differs from {truth}:", highlight=False)
        for difference in finding.differences:
            console.print(f"    {escape(difference)}", highlight=False)


def _print_best(console: Console, catalog: Catalog, table: AppTable, *, by: str, in_words: str) -> None:
    rows: pl.DataFrame = (
        catalog.table(table.name).scan().filter(pl.any_horizontal(pl.col(table.measures) != 0)).collect()
    )
    order = [by, *table.key]
    best = rows.sort(order, descending=[name == by for name in order]).head(SHOWN_ROWS)
    console.print(f"\n[bold]{table.name}[/]: {rows.height:,} rows, {in_words}", highlight=False)
    grid = Grid(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name, dtype in best.schema.items():
        grid.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="fold")
    for row in best.select(_text(name, dtype) for name, dtype in best.schema.items()).iter_rows():
        grid.add_row(*(value or "" for value in row))
    console.print(grid)


def _text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column as it is printed, times to the minute."""
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.strftime("%m-%d %H:%M")
    return pl.col(name).cast(pl.String)

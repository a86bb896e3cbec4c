"""What the main job prints: the APP tables, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl
from rich.console import Console
from rich.table import Table as Grid

from lakehouse_demo.stories import Finding
from storage_engine import Catalog

SHOWN_ROWS: Final = 12


def print_app_tables(console: Console, catalog: Catalog) -> None:
    """Print the APP tables: the best of each, and what they add up to."""
    performance = catalog.table("app.sprint_performance").scan().filter(pl.col("orders") != 0).collect()
    _print(
        console,
        f"app.sprint_performance: {performance.height:,} rows, the {SHOWN_ROWS} highest scores",
        performance.sort("score", "v_date", "agent_id", descending=[True, False, False]).head(SHOWN_ROWS),
    )
    growth = catalog.table("app.member_growth").scan().filter(pl.col("new_members") + pl.col("renewed_members") > 0)
    rows = growth.collect()
    _print(
        console,
        f"app.member_growth: {rows.height:,} rows, the {SHOWN_ROWS} with most new members",
        rows.sort("new_members", "v_month", "city_id", "product_id", descending=[True, False, False, False]).head(
            SHOWN_ROWS
        ),
    )


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """Print what is equal, and what is not."""
    for finding in findings:
        if not finding.differences:
            console.print(f"[bold green]✓[/] {finding.name} equals the independent recomputation", highlight=False)
            continue
        console.print(f"[bold red]✗[/] {finding.name} differs:", highlight=False)
        for difference in finding.differences:
            console.print(f"    {difference}", highlight=False)


def _print(console: Console, title: str, rows: pl.DataFrame) -> None:
    grid = Grid(title=title, title_justify="left")
    for name, dtype in rows.schema.items():
        grid.add_column(name, justify="right" if dtype.is_numeric() else "left")
    for row in rows.cast(pl.String).iter_rows():
        grid.add_row(*(value or "" for value in row))
    console.print(grid)

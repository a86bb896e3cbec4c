"""What ``lakehouse top`` shows, as tables of a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lakehouse_assets.health import TableHealth, warehouse_health
from storage_engine import Catalog

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_FACTS: Final = pl.Schema(
    {
        "table": pl.String(),
        "snapshot": pl.Int64(),
        "age_ms": pl.Int64(),
        "rows": pl.Int64(),
        "files": pl.Int64(),
        "level0_files": pl.Int64(),
        "file_bytes": pl.Int64(),
        "debt_bytes": pl.Int64(),
        "rows_per_s": pl.Float64(),
        "behind": pl.Int64(),
        "sources": pl.String(),
        "quarantined": pl.Int64(),
        "trouble": pl.String(),
    }
)


def facts(warehouse: str, database: str | None) -> pl.DataFrame:
    """One row a table."""
    found = _health(Catalog(warehouse), database)
    rows = [asdict(each) | {"sources": ", ".join(each.sources)} for each in found]
    return pl.DataFrame(rows, schema=_FACTS)


def show_once(warehouse: str, database: str | None) -> None:
    """Print what is now."""
    Console().print(rendered(_health(Catalog(warehouse), database), warehouse))


def show_live(warehouse: str, database: str | None, *, every_s: float) -> None:
    """Show it until Ctrl-C, on a screen of its own that leaves the terminal as it was."""
    catalog = Catalog(warehouse)
    try:
        with Live(rendered(_health(catalog, database), warehouse), screen=True, auto_refresh=False) as live:
            while True:
                live.update(rendered(_health(catalog, database), warehouse), refresh=True)
                time.sleep(every_s)
    except KeyboardInterrupt:
        return


def rendered(found: Sequence[TableHealth], warehouse: str) -> RenderableType:
    """Streams above, tables below."""
    title = Text.assemble(
        ("lakehouse top", "bold"), f"  {warehouse}  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  ", ("Ctrl-C ends", "dim")
    )
    return Group(title, _streams([each for each in found if each.sources or each.trouble]), _tables(found))


def _streams(found: Sequence[TableHealth]) -> Table:
    table = _table("streams", "target", "reads", "behind", "rows/s", "last commit")
    for each in found:
        behind = each.trouble or f"{each.behind or 0:,}"
        style = "bold red" if each.trouble else "yellow" if each.behind else "green"
        table.add_row(
            Text(each.table),
            Text(", ".join(each.sources), overflow="ellipsis", no_wrap=True),
            Text(behind, style=style),
            f"{each.rows_per_s:,.0f}",
            age(each.age_ms),
        )
    return table


def _tables(found: Sequence[TableHealth]) -> Table:
    table = _table(
        "tables", "table", "snapshot", "age", "rows", "files", "level 0", "size", "to compact", "rows/s", "refused"
    )
    for each in found:
        table.add_row(
            Text(each.table),
            "-" if each.snapshot is None else str(each.snapshot),
            age(each.age_ms),
            f"{each.rows:,}",
            str(each.files),
            str(each.level0_files),
            size(each.file_bytes),
            size(each.debt_bytes),
            f"{each.rows_per_s:,.0f}",
            Text(str(each.quarantined), style="yellow" if each.quarantined else ""),
        )
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="left" if name in ("target", "reads", "table") else "right", no_wrap=True)
    return table


def age(milliseconds: int | None) -> str:
    """A duration in its largest unit."""
    if milliseconds is None:
        return "-"
    for length, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if milliseconds >= length:
            return f"{milliseconds // length} {unit}"
    return f"{milliseconds} ms"


def size(count: int) -> str:
    """Bytes in their largest unit."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {_UNITS[unit]}"


def _health(catalog: Catalog, database: str | None) -> list[TableHealth]:
    return warehouse_health(catalog, now_ms=time.time_ns() // 1_000_000, database=database)

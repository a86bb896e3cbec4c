"""What ``lakehouse top`` shows, as tables of a terminal."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Final

import polars as pl
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lakehouse_assets.health import TableHealth, warehouse_health
from lakehouse_assets.stream.declaration import Stream
from lakehouse_cli.declared import declared_streams
from storage_engine import Catalog

_UNITS: Final = ("B", "KB", "MB", "GB", "TB")
_REMARK: Final = "streams as of each table's last commit; --sql or --project: as they are declared now"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at. ``declared``: the streams that count, by target; None: those of each table's last commit."""

    catalog: Catalog
    warehouse: str
    database: str | None
    declared: Mapping[str, Sequence[Stream]] | None

    def facts(self) -> pl.DataFrame:
        """One row a table."""
        rows = [asdict(each) | {"sources": ", ".join(each.sources)} for each in self._health()]
        return pl.DataFrame(rows, schema=_FACTS)

    def show_once(self) -> None:
        """Print what is now."""
        Console().print(self._rendered())

    def show_live(self, *, every_s: float) -> None:
        """Show it until Ctrl-C, on a screen of its own that leaves the terminal as it was.

        Ctrl-C ends it between two looks, a second one at once. In the middle of a query, Polars may raise KeyboardInterrupt as
        well as Python: the second one came while the first was handled, and the terminal was left as it should not be.
        """
        ended = Event()

        def end(*_: object) -> None:
            if ended.is_set():
                raise KeyboardInterrupt
            ended.set()

        before = signal.signal(signal.SIGINT, end)
        try:
            with Live(self._rendered(), screen=True, auto_refresh=False) as live:
                while not ended.wait(every_s):
                    live.update(self._rendered(), refresh=True)
        except KeyboardInterrupt:
            return
        finally:
            signal.signal(signal.SIGINT, before)

    def _rendered(self) -> RenderableType:
        return rendered(self._health(), self.warehouse, remark="" if self.declared is not None else _REMARK)

    def _health(self) -> list[TableHealth]:
        now_ms = time.time_ns() // 1_000_000
        return warehouse_health(self.catalog, now_ms=now_ms, database=self.database, declared=self.declared)


def watched(warehouse: str, *, database: str | None, projects: Sequence[str], folders: Sequence[str]) -> Watched:
    """A warehouse, or one database of it. Raises what projects raise that cannot be loaded."""
    declared = declared_streams(projects, folders)
    return Watched(catalog=Catalog(warehouse), warehouse=warehouse, database=database, declared=declared)


def rendered(found: Sequence[TableHealth], warehouse: str, *, remark: str = "") -> RenderableType:
    """Streams above, with a remark beneath them, tables below."""
    title = Text.assemble(
        ("lakehouse top", "bold"), f"  {warehouse}  {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  ", ("Ctrl-C ends", "dim")
    )
    streams = _streams([each for each in found if each.sources or each.trouble], remark)
    troubles = [Text(f"{each.table}: {each.trouble}", style="red") for each in found if each.trouble]
    return Group(title, streams, *troubles, _tables(found))


def _streams(found: Sequence[TableHealth], remark: str) -> Table:
    table = _table("streams", "target", "reads", "behind", "rows/s", "last commit")
    table.caption, table.caption_justify = remark or None, "left"
    for each in found:
        behind = "error" if each.trouble else f"{each.behind or 0:,}"
        style = "bold red" if each.trouble else "yellow" if each.behind else "green"
        table.add_row(
            Text(each.table),
            Text(", ".join(each.sources)),
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
    """On a narrow terminal, names go over several lines; numbers stay whole."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="dim")
    for name in columns:
        is_name = name in ("target", "reads", "table")
        table.add_column(name, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
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

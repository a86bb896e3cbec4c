"""Progress of the main job: a board that moves on a terminal, a line for each micro-batch elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid

from lakehouse_demo.orchestration import MicroBatch, TableNews

REFRESHES_PER_S: Final = 4
LAYERS: Final = ("ods", "dwd", "app")


class ProgressBoard:
    """Shows which step the job is at, events per second, and what each table has taken so far."""

    def __init__(self, console: Console, *, steps: int) -> None:
        self._console = console
        self._steps = steps
        self._bar = Progress(
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        )
        self._task = self._bar.add_task("starting", total=steps)
        self._tables: dict[str, TableNews] = {}
        self._started = time.perf_counter()
        self.events = 0
        self.batches = 0
        self._live = Live(
            console=console, get_renderable=self._board, refresh_per_second=REFRESHES_PER_S, transient=True
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    @property
    def duration_s(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._started

    def landed(self, step: int) -> None:
        """A step brought changes; a micro-batch of them begins."""
        self._bar.update(self._task, completed=step, description=self._rate())

    def moved(self, step: int, batch: MicroBatch) -> None:
        """A micro-batch is over."""
        self.batches += 1
        self.events += batch.events
        for name, news in batch.tables.items():
            self._tables[name] = self._tables.get(name, TableNews()).then(news)
        self._bar.update(self._task, completed=step, description=self._rate())
        if not self._console.is_terminal:
            rows = " → ".join(f"{layer} {batch.rows_read(layer):,}" for layer in LAYERS)
            self._console.print(
                f"{step}/{self._steps}  {rows} rows  {batch.duration_s:.1f} s  {self._rate()}"
                f"  {batch.rows_behind:,} rows behind",
                highlight=False,
                soft_wrap=True,
            )

    def _rate(self) -> str:
        return f"{self.events:,} events, {self.events / max(self.duration_s, 1e-9):,.0f} a second"

    def _board(self) -> RenderableType:
        grid = Grid(box=None, pad_edge=False, header_style="dim")
        for title in ("table", "read", "written", "refused", "behind", "snapshot"):
            grid.add_column(title, justify="left" if title == "table" else "right", min_width=8)
        for name, news in self._tables.items():
            numbers = (news.rows_read, news.rows_written, news.rows_rejected, news.rows_behind, news.snapshot)
            grid.add_row(name, *(f"{number:,}" for number in numbers))
        return Group(self._bar, grid)

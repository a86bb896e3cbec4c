"""What was measured, and how it is shown: on the console and as the tables of ``docs/benchmarks.md``."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

OURS = "storage_engine"
BEGIN, END = "<!-- figures: written by `python -m benchmarks --write` -->", "<!-- end of figures -->"
_PART = re.compile(r"<!-- (?P<scenario>[\w-]+) -->\n.*?\n<!-- end of (?P=scenario) -->", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Some values of one engine at one work.

    ``least_ratio``: by how much a peer's median should at least exceed ours; ``most``: what our median should stay below,
    in the same unit, or with ``most_of`` as a multiple of that other engine's.
    """

    work: str
    engine: str
    values: tuple[float, ...]
    unit: str = "s"
    least_ratio: float | None = None
    most: float | None = None
    most_of: str | None = None
    peak_mb: float | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One scenario: what was done, and its figures."""

    title: str
    text: str
    figures: tuple[Figure, ...]


def environment() -> str:
    """The machine and the moment, in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    kernel = platform.release().split("-")[0]
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    return (
        f"{os.cpu_count()} cores ({model}), {platform.system()} {kernel}, Python {platform.python_version()},"
        f" Polars {pl.__version__}, load average {load} when it ended"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if os.path.exists(path) else []


_HEADER = ("work", "engine", "median", "least – most", "rounds", "peak MiB", "ratio", "goal")


def _rows(figures: Sequence[Figure]) -> Iterable[tuple[str, ...]]:
    ours = {figure.work: figure.median for figure in figures if figure.engine == OURS}
    medians = {(figure.work, figure.engine): figure.median for figure in figures}
    for figure in figures:
        ratio = figure.median / ours[figure.work] if figure.work in ours and figure.engine != OURS else None
        yield (
            figure.work,
            figure.engine,
            f"{_number(figure.median)} {figure.unit}",
            f"{_number(min(figure.values))} – {_number(max(figure.values))}",
            str(len(figure.values)),
            "" if figure.peak_mb is None else f"{figure.peak_mb:.0f}",
            "" if ratio is None else f"{ratio:.2f} ×",
            _goal(figure, ratio, medians),
        )


def _goal(figure: Figure, ratio: float | None, medians: Mapping[tuple[str, str], float]) -> str:
    if figure.least_ratio is not None and ratio is not None:
        return f"≥ {figure.least_ratio:g} × {_mark(ratio >= figure.least_ratio)}"
    if figure.most is None:
        return ""
    if figure.most_of is None:
        return f"≤ {figure.most:g} {figure.unit} {_mark(figure.median <= figure.most)}"
    bound = figure.most * medians[figure.work, figure.most_of]
    return f"≤ {figure.most:g} × {figure.most_of} {_mark(figure.median <= bound)}"


def _mark(met: bool) -> str:
    return "✓" if met else "✗"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def show(section: Section) -> None:
    """Print a section to the console."""
    table = Table(title=section.title, caption=section.text, title_justify="left", caption_justify="left")
    for name in _HEADER:
        table.add_column(name, justify="left" if name in ("work", "engine") else "right")
    for row in _rows(section.figures):
        table.add_row(*row)
    Console(width=150).print(table)


def write_page(page: Path, measured: Mapping[str, Sequence[Section]], command: str, order: Sequence[str]) -> None:
    """Put each scenario's sections between its own marks in the figures of a page; those of other scenarios stay.

    Each part names its moment, commit, machine and command. Scenarios stand in ``order``; one that it does not name goes.
    """
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    block, after = rest.split(END, 1)
    parts = {match["scenario"]: match[0] for match in _PART.finditer(block)}
    parts |= {scenario: _part(scenario, sections, command) for scenario, sections in measured.items()}
    body = "\n\n".join(parts[scenario] for scenario in order if scenario in parts)
    page.write_text(f"{before}{BEGIN}\n\n{body}\n\n{END}{after}", encoding="utf-8")


def _part(scenario: str, sections: Sequence[Section], command: str) -> str:
    lines = [f"<!-- {scenario} -->", ""]
    for section in sections:
        lines += [f"### {section.title}", "", section.text, ""]
        lines += ["| " + " | ".join(_HEADER) + " |", "|---|---|" + "---:|" * (len(_HEADER) - 2)]
        lines += ["| " + " | ".join(row) + " |" for row in _rows(section.figures)]
        lines.append("")
    lines += [f"Measured by `{command}` {_moment()}: {environment()}.", "", f"<!-- end of {scenario} -->"]
    return "\n".join(lines)


def _moment() -> str:
    """The day, and the commit that was measured (marked where files differ from it)."""
    day = f"on {datetime.now(UTC):%Y-%m-%d}"
    described = ["git", "describe", "--always", "--abbrev=10", "--exclude=*", "--dirty= with changes"]
    done = subprocess.run(described, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return f"{day} at {done.stdout.strip()}" if done.returncode == 0 else day

"""What the two APP tables must hold, and how one is compared with what it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias

import polars as pl

REPORTED_MAX: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTable:
    """An APP table: its key columns and its measures (sums, exact)."""

    name: str
    key: tuple[str, ...]
    measures: tuple[str, ...]


SPRINT_PERFORMANCE: Final = AppTable(
    name="app.sprint_performance",
    key=("v_date", "sprint_id", "team_id", "agent_id"),
    measures=("orders", "amount", "score"),
)
"""Paid orders per day, sprint, team and agent. Its ``update_time`` is the last event time in the order of
merging, which depends on the order of arrival; it is not compared."""

MEMBER_GROWTH: Final = AppTable(
    name="app.member_growth",
    key=("v_month", "city_id", "product_id"),
    measures=("new_members", "renewed_members"),
)
"""Distinct members with a paid order, per month, the member's city and product."""


Rows: TypeAlias = pl.DataFrame | Iterable[Mapping[str, Any]]


def compare(table: AppTable, expected: Rows, actual: Rows) -> list[str]:
    """Tell how an APP table differs from what it should hold, in sentences; none if it does not.

    ``expected`` and ``actual`` are frames or mappings column → value; columns beyond key and measures are
    ignored, and so are rows whose measures are all zero. Figures are compared exactly (int and Decimal). At
    most ``REPORTED_MAX`` differences are told one by one.
    """
    wanted, _ = _groups(table, expected)
    found, repeated = _groups(table, actual)
    differences = [f"{count} rows for {_key(table, key)}; expected one" for key, count in repeated.items()]
    for key in sorted(wanted.keys() | found.keys(), key=str):
        if key not in found:
            differences.append(f"no row for {_key(table, key)}; expected {_figures(table, wanted[key])}")
        elif key not in wanted:
            differences.append(f"unexpected row for {_key(table, key)}: {_figures(table, found[key])}")
        elif wanted[key] != found[key]:
            differences.append(f"{_key(table, key)}: {_wrong_figures(table, wanted[key], found[key])}")
    if len(differences) > REPORTED_MAX:
        differences[REPORTED_MAX:] = [f"and {len(differences) - REPORTED_MAX} more differences"]
    return [f"{table.name}: {difference}" for difference in differences]


_Key: TypeAlias = tuple[Any, ...]
_Figures: TypeAlias = tuple[int | Decimal | None, ...]


def _groups(table: AppTable, rows: Rows) -> tuple[dict[_Key, _Figures], dict[_Key, int]]:
    """(figures by key without all-zero groups, number of rows of each key that stands more than once)."""
    seen: Counter[_Key] = Counter()
    groups: dict[_Key, _Figures] = {}
    for row in rows.iter_rows(named=True) if isinstance(rows, pl.DataFrame) else rows:
        key = tuple(row[column] for column in table.key)
        figures = tuple(row[measure] for measure in table.measures)
        seen[key] += 1
        if any(figures):
            groups[key] = figures
    return groups, {key: count for key, count in seen.items() if count > 1}


def _wrong_figures(table: AppTable, wanted: _Figures, found: _Figures) -> str:
    figures = zip(table.measures, wanted, found, strict=True)
    return ", ".join(f"{name} is {is_}, expected {should}" for name, should, is_ in figures if is_ != should)


def _key(table: AppTable, key: _Key) -> str:
    return ", ".join(f"{column}={value}" for column, value in zip(table.key, key, strict=True))


def _figures(table: AppTable, figures: _Figures) -> str:
    return ", ".join(f"{measure}={value}" for measure, value in zip(table.measures, figures, strict=True))

"""The truth about a landing folder, recomputed from the raw files without the engine: plain Python, one
event at a time.

1. Every line is judged by ``line_rules``; what is no event must be in quarantine.
2. Of all events of a key, in all files, the one with the greatest change time is the key's last state; a
   delete removes it. (An event that was delivered twice is the same event.)
3. The APP tables are plain grouping over those last states. Only orders with status ``paid`` count. An
   order's team is the one its agent is in at the end, its city the one its member lives in at the end, its
   score the product's weight at the end × quantity: nothing depends on when a row was processed. An order
   whose agent, product or member is not there counts nowhere; the stream ends without such orders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TypeAlias

from lakehouse_demo.line_rules import ChangeEvent, MalformedLine, parse_line
from lakehouse_demo.source_tables import FILE_SUFFIX, SOURCE_TABLES

Key: TypeAlias = tuple[str, ...]
Rows: TypeAlias = dict[Key, dict[str, Any]]
"""The rows of a source table by primary key."""

COUNTED_STATUS: Final = "paid"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedLine:
    """A line (numbered from 1) of ``<table>/<file>`` that is no event."""

    table: str
    file: str
    line: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """``tables``: the last state of every source table; ``event_times``: its change time, by table and key,
    deleted keys included; ``quarantined``: in order of table, file and line; the APP tables' rows, without
    all-zero groups.
    """

    tables: dict[str, Rows]
    event_times: dict[str, dict[Key, int]]
    quarantined: tuple[QuarantinedLine, ...]
    sprint_performance: list[dict[str, Any]]
    member_growth: list[dict[str, Any]]


def recompute(folder: Path | str, *, until: Mapping[str, str] | None = None) -> Truth:
    """Read all landed files and work out what every table must hold.

    ``until``: per table the name of the last file to read (a table that is missing in it: none); by default
    all files.
    """
    quarantined: list[QuarantinedLine] = []
    last: dict[str, dict[Key, ChangeEvent]] = {table: {} for table in SOURCE_TABLES}
    for table, rows in last.items():
        for file in _files(Path(folder), table, until):
            for event in _events(file, table, quarantined):
                known = rows.get(event.key)
                if known is None or event.event_time > known.event_time:
                    rows[event.key] = event
    tables = {table: {key: event.row for key, event in rows.items() if event.op != "d"} for table, rows in last.items()}
    return Truth(
        tables=tables,
        event_times={table: {key: event.event_time for key, event in rows.items()} for table, rows in last.items()},
        quarantined=tuple(quarantined),
        sprint_performance=sprint_performance(tables),
        member_growth=member_growth(tables),
    )


def sprint_performance(tables: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """(v_date, sprint_id, team_id, agent_id) → orders, amount and score of the paid orders."""
    groups: dict[Key, list[Any]] = defaultdict(lambda: [0, Decimal(0), Decimal(0)])
    for order, agent, product, _ in _counted_orders(tables):
        figures = groups[order["v_date"], order["sprint_id"], agent["team_id"], order["agent_id"]]
        figures[0] += 1
        figures[1] += order["amount"] or 0
        figures[2] += (product["score_weight"] or 0) * (order["quantity"] or 0)
    columns = ("v_date", "sprint_id", "team_id", "agent_id", "orders", "amount", "score")
    return [dict(zip(columns, (*key, *groups[key]), strict=True)) for key in sorted(groups)]


def member_growth(tables: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """(v_month, city_id, product_id) → distinct members with a paid order of type new, and of type renew."""
    members: dict[Key, dict[str, set[str]]] = defaultdict(lambda: {"new": set(), "renew": set()})
    for order, _, _, member in _counted_orders(tables):
        group = members[order["v_date"][:7], member["city_id"], order["product_id"]]
        group[order["order_type"]].add(order["member_id"])
    columns = ("v_month", "city_id", "product_id", "new_members", "renewed_members")
    return [
        dict(zip(columns, (*key, len(members[key]["new"]), len(members[key]["renew"])), strict=True))
        for key in sorted(members)
    ]


def _counted_orders(tables: Mapping[str, Rows]) -> Iterator[tuple[dict[str, Any], ...]]:
    """(order, agent, product, member) of every order that counts."""
    for order in tables["member_order"].values():
        agent = tables["agent"].get((order["agent_id"],))
        product = tables["product"].get((order["product_id"],))
        member = tables["member"].get((order["member_id"],))
        if order["status"] == COUNTED_STATUS and agent and product and member:
            yield order, agent, product, member


def _files(folder: Path, table: str, until: Mapping[str, str] | None) -> list[Path]:
    files = sorted(folder.joinpath(table).glob(f"[!.]*{FILE_SUFFIX}"))
    return files if until is None else [file for file in files if file.name <= until.get(table, "")]


def _events(file: Path, table: str, quarantined: list[QuarantinedLine]) -> Iterator[ChangeEvent]:
    """The events of one file; lines that are none are added to ``quarantined``."""
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield parse_line(line, SOURCE_TABLES[table])
        except MalformedLine as error:
            quarantined.append(QuarantinedLine(table=table, file=file.name, line=number, reason=str(error)))

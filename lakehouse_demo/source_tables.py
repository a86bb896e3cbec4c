"""The source tables of the business, and the format of the files they land in.

A landing folder holds one folder per table with files ``000001.jsonl``, ``000002.jsonl``, …: one change
event per line, as JSON in UTF-8, in Debezium's envelope (no line holds more than one event, no event spans
lines)::

    {"op": "c" | "u" | "d" | "r", "before": {…} | null, "after": {…} | null, "ts_ms": …,
     "source": {"db": "sales", "table": "member_order", "ts_ms": …, "seq": …}}

- ``op``: insert, update, delete, row of the initial snapshot. ``after`` holds the row (``before`` for a
  delete), always with every column of the table and no other.
- ``source.ts_ms`` is the **change time** in epoch milliseconds, for all tables and operations. It grows
  strictly with each change of a key, so the event with the greatest one is the row's last state. Where a
  table has ``event_time``, an ``after`` image repeats it there; the ``before`` of a delete holds the time
  of the previous change.
- ``source.seq`` numbers the changes in the order of the source; an event that is delivered twice is the
  same line twice.
- STRING is a JSON string, INT a JSON integer, ``DECIMAL(20,4)`` a string such as ``"12.5000"`` (no
  rounding: at most four fraction digits), DATE a string ``yyyy-mm-dd``, ``TIMESTAMP(3)`` an integer of
  epoch milliseconds in UTC; DAY is a STRING that holds a date ``yyyy-mm-dd``. A key, ``event_time`` and
  ``source.ts_ms`` are never null, other columns may be.

A line that breaks one of these rules is malformed and belongs into quarantine; blank lines are no events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DATABASE: Final = "sales"
OPERATIONS: Final = ("c", "u", "d", "r")
FILE_SUFFIX: Final = ".jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTable:
    """A table of the source database: column name → type as in the module's text, and the primary key."""

    name: str
    columns: dict[str, str]
    key: tuple[str, ...] = ("id",)


_TABLES: Final = (
    SourceTable(name="city", columns={"id": "STRING", "name": "STRING", "province": "STRING"}),
    SourceTable(name="team", columns={"id": "STRING", "name": "STRING", "city_id": "STRING"}),
    SourceTable(name="agent", columns={"id": "STRING", "name": "STRING", "team_id": "STRING", "hired_on": "DATE"}),
    SourceTable(
        name="product",
        columns={
            "id": "STRING",
            "name": "STRING",
            "category": "STRING",
            "category_name": "STRING",
            "score_weight": "DECIMAL(20,4)",
        },
    ),
    SourceTable(name="sprint", columns={"id": "STRING", "name": "STRING", "start_date": "DATE", "end_date": "DATE"}),
    SourceTable(
        name="member",
        columns={
            "id": "STRING",
            "name": "STRING",
            "city_id": "STRING",
            "phone": "STRING",
            "event_time": "TIMESTAMP(3)",
        },
    ),
    SourceTable(
        name="member_order",
        columns={
            "v_date": "DAY",
            "id": "STRING",
            "member_id": "STRING",
            "agent_id": "STRING",
            "product_id": "STRING",
            "sprint_id": "STRING",
            "order_type": "STRING",
            "quantity": "INT",
            "amount": "DECIMAL(20,4)",
            "status": "STRING",
            "event_time": "TIMESTAMP(3)",
        },
        key=("v_date", "id"),
    ),
)

SOURCE_TABLES: Final[dict[str, SourceTable]] = {table.name: table for table in _TABLES}
"""The seven source tables in the order in which they land: dimensions first, orders last."""

DIMENSIONS: Final = ("city", "team", "agent", "product", "sprint")

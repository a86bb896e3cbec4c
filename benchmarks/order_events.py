"""Order events as landing files: the dimensions, some prepared files, and a process that lands these again and again.

``python -m benchmarks.order_events FOLDER WAITING RATE`` lands prepared files under ever later names and times until its
input ends: so that ``WAITING`` files wait to be read, or ``RATE`` events a second if that is not 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

FILE_EVENTS = 100_000
ORDERS, MEMBERS, AGENTS, PRODUCTS = 2_000_000, 100_000, 500, 200
PREPARED = 12
FIRST_S = b"1706500"
"""First digits of the events' milliseconds; a file that is landed later has the next number in their place."""
TABLE = "member_order"
_LOOK_S = 0.01


def write_dimensions(landing: Path) -> None:
    """One file for each table that orders refer to."""
    rows: dict[str, list[dict[str, object]]] = {
        "city": [{"id": f"c{n}", "name": f"city {n}", "province": "p"} for n in range(50)],
        "team": [{"id": f"t{n}", "name": f"team {n}", "city_id": "c1"} for n in range(20)],
        "agent": [
            {"id": f"a{n}", "name": f"agent {n}", "team_id": f"t{n % 20}", "hired_on": "2020-01-01"}
            for n in range(AGENTS)
        ],
        "product": [
            {
                "id": f"p{n}",
                "name": f"product {n}",
                "category": f"k{n % 9}",
                "category_name": "k",
                "score_weight": "1.5000",
            }
            for n in range(PRODUCTS)
        ],
        "sprint": [{"id": "s1", "name": "sprint", "start_date": "2024-01-29", "end_date": "2024-02-04"}],
        "member": [
            {
                "id": f"m{n}",
                "name": f"member {n}",
                "city_id": f"c{n % 50}",
                "phone": "1",
                "event_time": int(FIRST_S) * 1_000_000 + n,
            }
            for n in range(MEMBERS)
        ],
    }
    for table, listed in rows.items():
        _write(landing / table / "000001.jsonl", table, listed)


def prepare(landing: Path) -> None:
    """Some files of order events, made before the clock runs; they are landed again and again under new names."""
    rng = np.random.default_rng(7)
    (landing / "prepared").mkdir(parents=True, exist_ok=True)
    (landing / TABLE).mkdir(exist_ok=True)
    for number in range(PREPARED):
        ids = rng.integers(0, ORDERS, FILE_EVENTS)
        rows = [
            {
                "v_date": f"2024-01-{29 + key % 3:02d}",
                "id": f"o{key}",
                "member_id": f"m{key % MEMBERS}",
                "agent_id": f"a{key % AGENTS}",
                "product_id": f"p{key % PRODUCTS}",
                "sprint_id": "s1",
                "order_type": "new" if key % 2 else "renew",
                "quantity": 1 + key % 3,
                "amount": f"{100 + (key * 7 + number) % 900}.0000",
                "status": "paid",
                "event_time": int(FIRST_S) * 1_000_000 + place,
            }
            for place, key in enumerate(ids.tolist())
        ]
        _write(landing / "prepared" / f"{number:06d}.jsonl", TABLE, rows)


def _write(path: Path, table: str, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    at = int(FIRST_S) * 1_000_000
    lines = (
        json.dumps(
            {
                "before": None,
                "after": row,
                "op": "c",
                "ts_ms": at + number,
                "source": {"ts_ms": at + number, "db": "sales", "table": table},
            }
        )
        for number, row in enumerate(rows)
    )
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)


@contextmanager
def landed(landing: Path, *, waiting: int, rate: int) -> Iterator[None]:
    """A process of its own lands prepared files meanwhile."""
    command = [sys.executable, "-m", "benchmarks.order_events", str(landing), str(waiting), str(rate)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.communicate()


def _land(landing: Path, waiting: int, rate: int) -> None:
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    prepared = [path.read_bytes() for path in sorted((landing / "prepared").iterdir())]
    started, number = time.monotonic(), 0
    while not ended.is_set():
        if rate:
            due = number * FILE_EVENTS <= (time.monotonic() - started) * rate
        else:
            due = sum(1 for _ in (landing / TABLE).glob("*.jsonl")) < waiting
        if not due:
            ended.wait(_LOOK_S)
            continue
        number += 1
        content = prepared[number % len(prepared)].replace(FIRST_S, str(int(FIRST_S) + number).encode())
        temporary = landing / TABLE / ".next"
        temporary.write_bytes(content)
        temporary.replace(landing / TABLE / f"{number:09d}.jsonl")


if __name__ == "__main__":
    _land(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

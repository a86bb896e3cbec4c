"""Repair of one day out of a year: seconds, and bytes of the files that it can have touched, beside Flink's INSERT OVERWRITE."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.figures import OURS, Figure, Section
from benchmarks.rounds import Bench
from lakehouse_assets.stream.declaration import Repair, Stream
from lakehouse_assets.stream.repair import repair
from lakehouse_assets.stream.runner import StreamRunner
from storage_engine import Catalog
from tests.interop.flink.server import Flink, FlinkSession
from tests.interop.flink.toolchain import find_java

DAYS, DAY_ROWS = 365, 60_000
_FLINK = "Flink 1.20 + Paimon 1.3.1"
_FLINK_TIMEOUT_S = 600
_COLUMNS = {"v_date": "STRING", "id": "BIGINT", "customer": "STRING", "amount": "DECIMAL(20, 4)", "status": "STRING"}
_SOURCE, _TARGET = "db.orders", "db.paid"
_MODES = {"overwrite": (_SOURCE,), "difference": (_SOURCE, _TARGET)}
"""How a day is repaired, and what is read for it."""
_SPOILED = 0.01
_GOAL = 1 / 300


def run(bench: Bench) -> Iterator[Section]:
    """One random day each round, no day twice: what a repair replaced stands there still; the rows are held against those from
    before.
    """
    rows = bench.rows(DAY_ROWS)
    warehouse = bench.folder / "repair"
    streams = {mode: _stream(mode) for mode in _MODES}
    _fill(warehouse, streams["overwrite"], rows)
    all_bytes = sum(_sizes(warehouse).values())
    count = bench.rounds + 1
    chosen = [_day(number) for number in np.random.default_rng(7).choice(DAYS, len(streams) * count, replace=False)]
    days_of = {mode: chosen[place * count :][:count] for place, mode in enumerate(streams)}
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    share: dict[str, list[float]] = defaultdict(list)
    for mode, stream in streams.items():
        for number, day in enumerate(days_of[mode]):
            right = _spoil(warehouse, day)
            with _only(warehouse, day, _MODES[mode]):
                before = _sizes(warehouse)
                started = time.perf_counter()
                repair(Catalog(str(warehouse)), stream, [day])
                taken = time.perf_counter() - started
                after = _sizes(warehouse)
                _compare(warehouse, day, right)
            written = sum(size for path, size in after.items() if path not in before)
            if number:  # the first round loads what is loaded once
                seconds[mode, OURS].append(taken)
                share[mode].append((sum(before.values()) + written) / all_bytes)
    if bench.java_wanted and find_java() is not None:
        with Flink() as flink:
            seconds["overwrite", _FLINK] = _flinks(flink.open(warehouse), warehouse, days_of["overwrite"])
    yield Section(
        title="Repair of one day in a year",
        text=f"{DAYS} days of {rows:,} rows in a table partitioned by day, and a table that a stream keeps from it; together"
        f" {all_bytes / 1e6:,.0f} MB. {_SPOILED:.0%} of a day's rows are spoiled in the target, and the day is repaired: as a"
        " whole ('overwrite'), or by what differs ('difference'). Meanwhile all data files are elsewhere but those of the day in"
        " the source, and for 'difference' in the target, so bytes touched are at most those of the files that are left, all"
        " metadata included, and of those written; older snapshots are expired, as maintenance does. Flink's INSERT"
        " OVERWRITE runs in a session cluster that is up; its time has the submission of the job.",
        figures=(
            *(
                Figure(work=f"one day, {mode}", engine=engine, values=tuple(values))
                for (mode, engine), values in seconds.items()
            ),
            *(
                Figure(
                    work=f"bytes touched by bytes there are, {mode}",
                    engine=OURS,
                    values=tuple(values),
                    unit="",
                    most=_GOAL,
                )
                for mode, values in share.items()
            ),
        ),
    )


def _stream(mode: str) -> Stream:
    how = Repair(column="v_date", source=pl.col("v_date"), mode="overwrite" if mode == "overwrite" else "difference")
    return Stream(source=_SOURCE, target=_TARGET, transform=_paid, repair=how)


def _paid(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("status") == "paid")


def _day(number: int) -> str:
    return str(date(2023, 1, 1) + timedelta(days=int(number)))


def _fill(warehouse: Path, stream: Stream, rows: int) -> None:
    catalog = Catalog(str(warehouse))
    catalog.create_database("db")
    for name in (_SOURCE, _TARGET):
        catalog.create_table(
            name, _COLUMNS, primary_key=["v_date", "id"], partitioned_by=["v_date"], options={"bucket": "1"}
        )
    chance = np.random.default_rng(7)
    ids = np.arange(DAYS * rows)
    catalog.table(_SOURCE).write(
        pl.DataFrame(
            {
                "v_date": np.repeat([_day(number) for number in range(DAYS)], rows),
                "id": ids,
                "customer": pl.Series(chance.integers(0, 1_000_000, len(ids))).cast(pl.String),
                "amount": pl.Series(chance.integers(1, 100_000, len(ids))).cast(pl.Decimal(20, 4)),
                "status": np.where(ids % 50, "paid", "refunded"),
            }
        )
    )
    runner = StreamRunner(catalog, stream)
    while runner.run_batch() is not None:
        pass


def _spoil(warehouse: Path, day: str) -> pl.DataFrame:
    """Make some of a day's rows wrong, and expire what was before, as maintenance does; returns the right ones."""
    table = Catalog(str(warehouse)).table(_TARGET)
    right = table.scan().filter(pl.col("v_date") == day).sort("id").collect()
    table.write(right.sample(fraction=_SPOILED, seed=7).with_columns(customer=pl.lit("spoiled")))
    while table.expire_snapshots(retain_max=1, retain_min=1):
        pass
    return right


def _compare(warehouse: Path, day: str, right: pl.DataFrame) -> None:
    rows = Catalog(str(warehouse)).table(_TARGET).scan().filter(pl.col("v_date") == day).sort("id").collect()
    if not rows.equals(right):
        raise RuntimeError(f"{day} was not repaired")


@contextmanager
def _only(warehouse: Path, day: str, tables: Collection[str]) -> Iterator[None]:
    """Data files are there meanwhile of one day of some tables, and of no other."""
    aside = warehouse.with_name("aside")
    hidden = [
        path
        for path in warehouse.glob("db.db/*/v_date=*/*/*")
        if path.parts[-3] != f"v_date={day}" or f"db.{path.parts[-4]}" not in tables
    ]
    for path in hidden:
        place = aside / path.relative_to(warehouse)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    try:
        yield
    finally:
        for path in hidden:
            (aside / path.relative_to(warehouse)).rename(path)
        shutil.rmtree(aside)


def _sizes(warehouse: Path) -> dict[str, int]:
    return {str(path): path.stat().st_size for path in warehouse.rglob("*") if path.is_file()}


def _flinks(flink: FlinkSession, warehouse: Path, days: list[str]) -> list[float]:
    taken = []
    for day in days:
        right = _spoil(warehouse, day)
        started = time.perf_counter()
        flink.sql(
            f"INSERT OVERWRITE {_TARGET} PARTITION (v_date = '{day}')"
            f" SELECT id, customer, amount, status FROM {_SOURCE} WHERE v_date = '{day}' AND status = 'paid'",
            timeout_s=_FLINK_TIMEOUT_S,
        )
        taken.append(time.perf_counter() - started)
        _compare(warehouse, day, right)
    return taken[1:]

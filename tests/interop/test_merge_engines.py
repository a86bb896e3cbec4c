"""The same work done by this engine, by Flink, and by both in turn, gives the same rows and the same changelog."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from storage_engine import Catalog
from tests.interop.both import Both, Shared
from tests.interop.flink.server import Flink

COLUMNS = (
    "v_date STRING NOT NULL, id INT NOT NULL, amount DECIMAL(20, 4), name STRING, seq BIGINT, best INT,"
    " PRIMARY KEY (v_date, id) NOT ENFORCED"
)
SCHEMA = {
    "v_date": pl.String(),
    "id": pl.Int32(),
    "amount": pl.Decimal(20, 4),
    "name": pl.String(),
    "seq": pl.Int64(),
    "best": pl.Int32(),
    "_row_kind": pl.String(),
}
UPSERTS = ("+I", "+U")
ALL_KINDS = ("+I", "+I", "+U", "-U", "-D")
ENGINES = {"o": "ours", "f": "flink"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A table's options, and the row kinds that may be written to it."""

    options: dict[str, str] = field(default_factory=dict)
    kinds: tuple[str, ...] = ALL_KINDS
    changelog: bool = False
    """Whether every script must give the same changelog, step by step."""


AGGREGATION = {
    "merge-engine": "aggregation",
    "fields.amount.aggregate-function": "sum",
    "fields.name.aggregate-function": "last_non_null_value",
    "fields.name.ignore-retract": "true",
    "fields.seq.aggregate-function": "max",
    "fields.seq.ignore-retract": "true",
    "fields.best.aggregate-function": "min",
    "fields.best.ignore-retract": "true",
}
LOOKUP = {"changelog-producer": "lookup"}
CASES = {
    "deduplicate": Case(),
    "deduplicate, sequence.field": Case(options={"sequence.field": "seq"}),
    "deduplicate, lookup": Case(options=LOOKUP, changelog=True),
    "deduplicate, sequence.field, lookup": Case(options={"sequence.field": "seq", **LOOKUP}, changelog=True),
    "aggregation": Case(options=AGGREGATION),
    "aggregation, lookup": Case(options={**AGGREGATION, **LOOKUP}, changelog=True),
}


def frames(kinds: tuple[str, ...], *, seed: int, count: int) -> list[pl.DataFrame]:
    """Batches of random changes over few keys, some keys several times in one batch."""
    chance = random.Random(seed)
    batches = []
    for _ in range(count):
        rows = [
            (
                chance.choice(["2024-01-01", "2024-01-02"]),
                chance.randrange(-6, 7),
                None if chance.random() < 0.2 else Decimal(chance.randrange(-99999, 99999)).scaleb(-4),
                chance.choice([None, "", "a", "é😀", "a long name of some length"]),
                chance.choice([None, *range(6)]),
                chance.choice([None, *range(-9, 9)]),
                chance.choice(kinds),
            )
            for _ in range(chance.randrange(1, 14))
        ]
        batches.append(pl.DataFrame(rows, schema=SCHEMA, orient="row"))
    return batches


@pytest.fixture
def both(flink: Flink, tmp_path: Path) -> Both:
    ours = Catalog(str(tmp_path))
    ours.create_database("db")
    return Both(ours=ours, flink=flink.open(tmp_path))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_scripts(both: Both, case: Case) -> None:
    batches = frames(case.kinds, seed=1, count=6)
    scripts = {"ours": "oooooooo", "flinks": "ffffffff", "mixed": "ofoffofo"}
    tables = {
        name: both.create(
            f"db.{name}",
            COLUMNS,
            {"bucket": "2", **case.options},
            by=ENGINES[script[0]],
            rest="PARTITIONED BY (v_date)",
        )
        for name, script in scripts.items()
    }
    for step in range(8):
        results = {}
        changes = {}
        for name, shared in tables.items():
            engine = ENGINES[scripts[name][step]]
            if step in (4, 7):
                shared.compact(by=engine)
            else:
                shared.write(batches[step - (step > 4)], by=engine)
            results[name] = shared.rows()
            changes[name] = shared.new_changes()
        assert results["ours"] == results["flinks"]
        assert results["mixed"] == results["flinks"]
        if case.changelog:
            assert changes["ours"] == changes["flinks"]
            assert changes["mixed"] == changes["flinks"]

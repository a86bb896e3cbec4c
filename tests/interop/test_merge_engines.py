"""The same work done by this engine, by Paimon, and by both in turn, gives the same rows and the same changelog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

import polars as pl
import pytest

from tests.interop.both import Both, Changes
from tests.interop.flink.canonical import in_order
from tests.interop.workload import ALL_KINDS, UPSERTS, Column, batches, ddl

DAYS = Column(sql="STRING NOT NULL", dtype=pl.String(), values=["2024-01-01", "2024-01-02"])
IDS = Column(sql="INT NOT NULL", dtype=pl.Int32(), values=range(-5, 5))
SMALL = Column(sql="INT", dtype=pl.Int32(), values=[None, *range(-9, 9)])
ORDER = Column(sql="BIGINT", dtype=pl.Int64(), values=[None, *range(6)])
TEXT = Column(sql="STRING", dtype=pl.String(), values=[None, None, "", "a", "é😀", "a long name of some length"])
FLAG = Column(sql="BOOLEAN", dtype=pl.Boolean(), values=[None, True, False])
MONEY = Column(
    sql="DECIMAL(20, 4)",
    dtype=pl.Decimal(20, 4),
    values=[None, *(Decimal(cents).scaleb(-4) for cents in range(-90000, 90000, 12345))],
)
FACTOR = Column(
    sql="DECIMAL(9, 2)",
    dtype=pl.Decimal(9, 2),
    values=[None, *map(Decimal, ("0.05", "-1.15", "2.00", "33.33", "-99999.99", "1234567.89"))],
)
LIST = Column(sql="ARRAY<STRING>", dtype=pl.List(pl.String()), values=[None, [], ["a"], ["b", "a"], [None]])
MAP = Column(
    sql="MAP<STRING, INT>",
    dtype=pl.List(pl.Struct({"key": pl.String(), "value": pl.Int32()})),
    values=[None, [], [{"key": "a", "value": 1}], [{"key": "b", "value": None}, {"key": "a", "value": 2}]],
)
COLUMNS = {"v_date": DAYS, "id": IDS, "amount": MONEY, "name": TEXT, "seq": ORDER, "best": SMALL}
GROUPED = COLUMNS | {"other": TEXT, "seq2": ORDER, "seq3": ORDER, "tally": SMALL}
# Paimon writes the changelog of a lone record without its group where the group's sequence is null, but may leave the
# record itself as it is: the batch read then shows what the changelog did not tell. This engine writes what it told.
SEQUENCED = GROUPED | dict.fromkeys(("seq", "seq2"), Column(sql="BIGINT", dtype=pl.Int64(), values=range(6)))
KEY = ("v_date", "id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A table's options and columns, and the row kinds that may be written to it."""

    options: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Column] = field(default_factory=lambda: COLUMNS)
    kinds: Sequence[str] = ALL_KINDS
    same_changes: bool = True
    """Whether each step must give the same changelog, whoever took it."""


def aggregates(**functions: str) -> dict[str, str]:
    """Options of an aggregation; a function with "!" ignores what is retracted."""
    options = {"merge-engine": "aggregation"}
    for name, function in functions.items():
        options[f"fields.{name}.aggregate-function"] = function.rstrip("!")
        if function.endswith("!"):
            options[f"fields.{name}.ignore-retract"] = "true"
    return options


SUMS = aggregates(amount="sum", name="last_non_null_value!", seq="max!", best="min!")
LOOKUP = {"changelog-producer": "lookup"}
INPUT = {"changelog-producer": "input"}
FULL = {"changelog-producer": "full-compaction"}
VECTORS = {"deletion-vectors.enabled": "true"}
SEQUENCE = {"sequence.field": "seq"}
# Everything goes to the top level, whatever the sizes of files: a -D that is kept at a lower level still holds off the
# records of an older sequence, and one that was dropped at the top does not.
TO_TOP = {"compaction.size-ratio": "100000"}
PARTIAL = {"merge-engine": "partial-update"}
GROUPS = {
    **PARTIAL,
    "fields.seq.sequence-group": "amount,name",
    "fields.seq2,seq3.sequence-group": "best,tally",
    "fields.tally.aggregate-function": "sum",
}
FIRST = {"merge-engine": "first-row"}
CASES = {
    "deduplicate": Case(same_changes=False),
    "deduplicate, sequence.field": Case(options=SEQUENCE, same_changes=False),
    "deduplicate, several sequence fields": Case(options={"sequence.field": "seq,best"}, same_changes=False),
    "deduplicate, input": Case(options=INPUT),
    "deduplicate, lookup": Case(options=LOOKUP),
    "deduplicate, sequence.field, lookup": Case(options={**SEQUENCE, **LOOKUP, **TO_TOP}),
    "deduplicate, sequence.field, lookup, row-deduplicate": Case(
        options={**SEQUENCE, **LOOKUP, **TO_TOP, "changelog-producer.row-deduplicate": "true"}
    ),
    "deduplicate, full-compaction": Case(options=FULL),
    "deduplicate, ignore-delete": Case(options={"ignore-delete": "true", **LOOKUP}),
    "deduplicate, deletion vectors": Case(options=VECTORS, same_changes=False),
    "deduplicate, deletion vectors, sequence.field, lookup": Case(options={**VECTORS, **SEQUENCE, **LOOKUP}),
    "deduplicate, deletion vectors of 64 bits": Case(
        options={**VECTORS, "deletion-vectors.bitmap64": "true"}, same_changes=False
    ),
    "aggregation": Case(options=SUMS, same_changes=False),
    "aggregation, lookup": Case(options={**SUMS, **LOOKUP}),
    "aggregation, deletion vectors": Case(options={**SUMS, **VECTORS}, same_changes=False),
    "aggregation, sequence.field": Case(
        options={**aggregates(amount="sum", name="last_value", best="last_non_null_value"), **SEQUENCE},
        same_changes=False,
    ),
    "aggregation, remove-record-on-delete": Case(
        options={
            **aggregates(amount="sum", name="last_value", best="sum", seq="sum"),
            "aggregation.remove-record-on-delete": "true",
            **LOOKUP,
        },
    ),
    "aggregation, many functions": Case(
        options=aggregates(
            amount="sum",
            best="product!",
            factor="product!",
            name="listagg!",
            seq="first_value!",
            name2="first_non_null_value!",
            flag="bool_and!",
            flag2="bool_or!",
            list="collect",
            map="merge_map",
        ),
        columns=COLUMNS | {"factor": FACTOR, "name2": TEXT, "flag": FLAG, "flag2": FLAG, "list": LIST, "map": MAP},
        kinds=UPSERTS,
        same_changes=False,
    ),
    "partial-update": Case(options=PARTIAL, kinds=UPSERTS, same_changes=False),
    "partial-update, lookup": Case(options={**PARTIAL, **LOOKUP}, kinds=UPSERTS),
    "partial-update, sequence.field": Case(options={**PARTIAL, **SEQUENCE}, kinds=UPSERTS, same_changes=False),
    "partial-update, sequence groups": Case(options=GROUPS, columns=GROUPED, same_changes=False),
    "partial-update, sequence groups, lookup": Case(options={**GROUPS, **LOOKUP, **TO_TOP}, columns=SEQUENCED),
    "partial-update, remove-record-on-delete": Case(
        options={**PARTIAL, "partial-update.remove-record-on-delete": "true", **LOOKUP}
    ),
    "partial-update, deletion vectors": Case(options={**PARTIAL, **VECTORS}, kinds=UPSERTS, same_changes=False),
    "first-row": Case(options=FIRST, kinds=UPSERTS, same_changes=False),
    "first-row, lookup, ignore-delete": Case(
        options={**FIRST, **LOOKUP, "ignore-delete": "true"}, kinds=("+I", "-U", "-D")
    ),
}
SCRIPTS = {"ours": "ooooooo", "theirs": "ppppppp", "mixed": "opopopo"}
WRITERS = {"o": "ours", "p": "paimon"}
COMPACTIONS = (3, 6)


@pytest.mark.feature("Merge engines and changelogs", "{id}")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_same_work(both: Both, case: Case) -> None:
    columns, options = ddl(case.columns, KEY), {"bucket": "2", **case.options}
    tables = {name: both.create(f"db.{name}", columns, options, rest="PARTITIONED BY (v_date)") for name in SCRIPTS}
    ends: dict[str, list[int]] = {name: [] for name in SCRIPTS}
    for step, changes in enumerate(batches(case.columns, kinds=case.kinds, seed=1, count=len(SCRIPTS["ours"]))):
        for name, shared in tables.items():
            writer = WRITERS[SCRIPTS[name][step]]
            if step in COMPACTIONS:
                shared.compact(by=writer)
            else:
                shared.write(changes, by=writer)
            ends[name].append(shared.latest())
        rows = {name: shared.rows() for name, shared in tables.items()}
        assert rows["ours"] == rows["theirs"], f"step {step}"
        assert rows["mixed"] == rows["theirs"], f"step {step}"
    told = {name: changes_by_step(shared.changes_by_snapshot(), ends[name]) for name, shared in tables.items()}
    if case.same_changes:
        assert told["ours"] == told["theirs"]
        assert told["mixed"] == told["theirs"]


def changes_by_step(by_snapshot: dict[int, Changes], ends: Sequence[int]) -> list[Changes]:
    """The changes of each step, sorted, where a step ends with a snapshot."""
    return [
        in_order(change for snapshot in range(start + 1, end + 1) for change in by_snapshot[snapshot])
        for start, end in pairwise([0, *ends])
    ]

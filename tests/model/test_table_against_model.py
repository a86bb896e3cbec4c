"""Tables of every merge engine, changelog producer and with deletion vectors under random work, against a plain model.

Batch reads equal the model, the changelog replays to them, earlier snapshots, tags and branches stay as they were, and
no file is missing or left over. ``LAKEHOUSE_SEARCH`` multiplies the examples, which are then random and longer.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.effort import SEARCH, examples
from tests.model.machine import machine_of
from tests.model.table_model import Variant

LOOKUP = {"changelog-producer": "lookup"}
FULL = {"changelog-producer": "full-compaction"}
VECTORS = {"deletion-vectors.enabled": "true"}
NEWEST = {"sequence.field": "seq"}
NEWEST_OF_TWO = {"sequence.field": "seq,n"}
DYNAMIC = {"bucket": "-1", "dynamic-bucket.target-row-num": "3"}
PARTIAL = {"merge-engine": "partial-update"}
GROUPED = {**PARTIAL, "fields.seq.sequence-group": "amount,n"}
GROUPED_SUM = {**GROUPED, "fields.n.aggregate-function": "sum", "fields.amount.aggregate-function": "max"}
REMOVING = {"partial-update.remove-record-on-delete": "true"}
SUM = {
    "merge-engine": "aggregation",
    "fields.n.aggregate-function": "sum",
    "fields.amount.aggregate-function": "max",
    "fields.amount.ignore-retract": "true",
    "fields.default-aggregate-function": "last_value",
}
SUMS = {
    "merge-engine": "aggregation",
    "fields.n.aggregate-function": "sum",
    "fields.amount.aggregate-function": "sum",
    "fields.default-aggregate-function": "last_value",
}
FIRST = {"merge-engine": "first-row"}

VARIANTS = {
    "deduplicate": Variant(),
    "deduplicate, input": Variant(options={"changelog-producer": "input"}),
    "deduplicate, lookup": Variant(options=LOOKUP),
    "deduplicate, lookup, row-deduplicate": Variant(
        options={**LOOKUP, "changelog-producer.row-deduplicate": "true", "num-sorted-run.compaction-trigger": "2"}
    ),
    "deduplicate, full-compaction": Variant(options=FULL),
    "deduplicate, vectors": Variant(options=VECTORS),
    "deduplicate, vectors, lookup": Variant(options={**VECTORS, **LOOKUP, "deletion-vectors.bitmap64": "true"}),
    "deduplicate, vectors, input": Variant(options={**VECTORS, "changelog-producer": "input"}),
    "deduplicate, dynamic buckets, lookup": Variant(options={**DYNAMIC, **LOOKUP}),
    "deduplicate, dynamic buckets, vectors": Variant(options={**DYNAMIC, **VECTORS}),
    "deduplicate, ignore-delete": Variant(options={"ignore-delete": "true"}),
    "deduplicate, ignore-delete, vectors, lookup": Variant(options={"ignore-delete": "true", **VECTORS, **LOOKUP}),
    "newest": Variant(options=NEWEST, drops_tombstones=True),
    "newest, lookup": Variant(options={**NEWEST, **LOOKUP}, drops_tombstones=True),
    "newest, full-compaction": Variant(options={**NEWEST, **FULL}, drops_tombstones=True),
    "newest, vectors": Variant(options={**NEWEST, **VECTORS}, drops_tombstones=True),
    "newest, vectors, lookup": Variant(options={**NEWEST, **VECTORS, **LOOKUP}, drops_tombstones=True),
    "newest by two columns, lookup": Variant(options={**NEWEST_OF_TWO, **LOOKUP}, drops_tombstones=True),
    "partial-update": Variant(options=PARTIAL, retracts="none"),
    "partial-update, lookup": Variant(options={**PARTIAL, **LOOKUP}, retracts="none"),
    "partial-update, full-compaction": Variant(options={**PARTIAL, **FULL}, retracts="none"),
    "partial-update, vectors": Variant(options={**PARTIAL, **VECTORS}, retracts="none"),
    "partial-update, ignore-delete, lookup": Variant(options={**PARTIAL, **LOOKUP, "ignore-delete": "true"}),
    "partial-update, removing, lookup": Variant(
        options={**PARTIAL, **REMOVING, **LOOKUP}, retracts="live", last_in_batch=True
    ),
    "partial-update, removing, vectors, lookup": Variant(
        options={**PARTIAL, **REMOVING, **VECTORS, **LOOKUP}, retracts="live", last_in_batch=True
    ),
    "groups": Variant(options=GROUPED, retracts="live"),
    "groups, lookup": Variant(options={**GROUPED, **LOOKUP}, retracts="live"),
    "groups, full-compaction": Variant(options={**GROUPED, **FULL}, retracts="live"),
    "groups with aggregates, lookup": Variant(options={**GROUPED_SUM, **LOOKUP}, retracts="none"),
    "groups with aggregates, vectors": Variant(options={**GROUPED_SUM, **VECTORS}, retracts="none"),
    "sum": Variant(options=SUM, retracts="live"),
    "sum, lookup": Variant(options={**SUM, **LOOKUP}, retracts="live"),
    "sum, full-compaction": Variant(options={**SUM, **FULL}, retracts="live"),
    "sum, vectors": Variant(options={**SUM, **VECTORS}, retracts="live"),
    "sum, vectors, lookup": Variant(options={**SUM, **VECTORS, **LOOKUP}, retracts="live"),
    "sum, dynamic buckets, lookup": Variant(options={**SUM, **DYNAMIC, **LOOKUP}, retracts="live"),
    "sum, removing, lookup": Variant(
        options={**SUMS, **LOOKUP, "aggregation.remove-record-on-delete": "true"}, retracts="live", last_in_batch=True
    ),
    "first-row": Variant(options=FIRST, retracts="none"),
    "first-row, lookup": Variant(options={**FIRST, **LOOKUP}, retracts="none"),
}
SETTINGS = settings(
    max_examples=examples(3),
    stateful_step_count=30 if SEARCH else 10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", VARIANTS)
def test_random_work(name: str) -> None:
    run_state_machine_as_test(machine_of(VARIANTS[name]), settings=SETTINGS)

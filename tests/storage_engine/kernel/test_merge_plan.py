"""Merge plans: what is refused when a table is opened, and what a projected read must load."""

from __future__ import annotations

import pytest

from storage_engine.errors import InvalidOption, Unsupported
from storage_engine.kernel.merge import MergePlan
from tests.storage_engine.kernel.merge_models import schema_of

COLUMNS = {
    "k": "BIGINT",
    "a": "INT",
    "b": "STRING",
    "f": "DOUBLE",
    "l": "ARRAY<INT>",
    "y": "BYTES",
    "d": "DECIMAL(9, 2)",
}
AGGREGATION = {"merge-engine": "aggregation"}
PARTIAL_UPDATE = {"merge-engine": "partial-update"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sequence.field": "nope"}, "nope"),
        ({"sequence.field": "a,a"}, "twice"),
        ({"merge-engine": "first-row", "sequence.field": "a"}, "first-row"),
        ({**AGGREGATION, "fields.a.aggregate-function": "count"}, "count"),
        ({**AGGREGATION, "fields.b.aggregate-function": "sum"}, "STRING"),
        ({**AGGREGATION, "fields.a.aggregate-function": "collect"}, "ARRAY"),
        ({**AGGREGATION, "fields.l.aggregate-function": "nested_update"}, "ARRAY of ROW"),
        ({**AGGREGATION, "fields.a.ignore-retract": "maybe"}, "ignore-retract"),
        ({**PARTIAL_UPDATE, "fields.a.aggregate-function": "sum"}, "sequence group"),
        ({**PARTIAL_UPDATE, "fields.a.sequence-group": "b", "fields.d.sequence-group": "b"}, "two sequence groups"),
        ({**PARTIAL_UPDATE, "fields.a.sequence-group": "nope"}, "nope"),
        ({**PARTIAL_UPDATE, "ignore-delete": "true", "partial-update.remove-record-on-delete": "true"}, "contradict"),
        (
            {**PARTIAL_UPDATE, "fields.a.sequence-group": "b", "partial-update.remove-record-on-delete": "true"},
            "contradict",
        ),
        ({**PARTIAL_UPDATE, "partial-update.remove-record-on-sequence-group": "a"}, "'a'"),
        (
            {**AGGREGATION, "aggregation.remove-record-on-delete": "true", "fields.a.ignore-retract": "true"},
            "contradict",
        ),
    ],
    ids=str,
)
def test_what_paimon_refuses_is_refused(options: dict[str, str], named: str) -> None:
    with pytest.raises(InvalidOption, match=named):
        MergePlan.of(schema_of(COLUMNS, options))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sequence.field": "a", "sequence.field.sort-order": "descending"}, "descending"),
        ({"sequence.field": "f"}, "DOUBLE"),
        (
            {**PARTIAL_UPDATE, "fields.a.sequence-group": "b", "fields.b.aggregate-function": "first_non_null_value"},
            "first_non_null_value",
        ),
    ],
    ids=str,
)
def test_what_would_be_read_wrong_is_refused(options: dict[str, str], named: str) -> None:
    with pytest.raises(Unsupported, match=named):
        MergePlan.of(schema_of(COLUMNS, options))


def test_names_that_mean_the_same_function() -> None:
    options = {"fields.a.aggregate-function": "last_non_null", "fields.b.aggregate-function": "first_not_null_value"}
    rules = MergePlan.of(schema_of(COLUMNS, {**AGGREGATION, **options})).rules
    assert (rules["a"].function, rules["b"].function) == ("last_non_null_value", "first_non_null_value")


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({}, []),
        ({"merge-engine": "first-row"}, [1, 3]),
        ({"merge-engine": "first-row", "first-row.ignore-delete": "true"}, []),
        (PARTIAL_UPDATE, [1, 3]),
        ({**PARTIAL_UPDATE, "partial-update.remove-record-on-delete": "true"}, []),
        ({**PARTIAL_UPDATE, "fields.a.sequence-group": "b"}, []),
        ({**PARTIAL_UPDATE, "fields.a.sequence-group": "b", "fields.b.aggregate-function": "max"}, [1, 3]),
        ({**AGGREGATION, "fields.a.aggregate-function": "sum"}, []),
        ({**AGGREGATION, "fields.a.aggregate-function": "max"}, [1, 3]),
        ({**AGGREGATION, "fields.a.aggregate-function": "max", "fields.a.ignore-retract": "true"}, []),
        ({**AGGREGATION, "fields.a.aggregate-function": "max", "aggregation.remove-record-on-delete": "true"}, [1]),
    ],
    ids=str,
)
def test_retracts_that_could_never_be_merged(options: dict[str, str], refused: list[int]) -> None:
    plan = MergePlan.of(schema_of(COLUMNS, options))
    assert [kind for kind in range(4) if kind in (1, 3) and plan.refusal(kind) is not None] == refused


def test_a_projected_read_loads_what_decides_about_its_columns() -> None:
    columns = {"k": "INT", "g": "INT", "a": "INT", "h1": "INT", "h2": "INT", "b": "INT", "c": "INT"}
    groups = {"fields.g.sequence-group": "a", "fields.h1,h2.sequence-group": "b"}
    plan = MergePlan.of(schema_of(columns, {**PARTIAL_UPDATE, **groups, "sequence.field": "c"}))
    assert plan.columns_needed(["a"]) == ("k", "g", "a", "c")
    assert plan.columns_needed(["b"]) == ("k", "h1", "h2", "b", "c")
    assert plan.columns_needed(["h2"]) == ("k", "h1", "h2", "c")
    removing = {**PARTIAL_UPDATE, **groups, "partial-update.remove-record-on-sequence-group": "g"}
    assert MergePlan.of(schema_of(columns, removing)).columns_needed(["c"]) == ("k", "g", "c")
    assert MergePlan.of(schema_of(columns)).columns_needed([]) == ("k",)


@pytest.mark.parametrize(
    ("options", "adds_up"),
    [
        ({**AGGREGATION, "fields.default-aggregate-function": "sum"}, True),
        ({**AGGREGATION}, False),
        ({**AGGREGATION, "fields.default-aggregate-function": "sum", "fields.a.aggregate-function": "max"}, False),
        ({**AGGREGATION, "fields.default-aggregate-function": "sum", "fields.a.ignore-retract": "true"}, False),
        (
            {
                **AGGREGATION,
                "fields.default-aggregate-function": "sum",
                "aggregation.remove-record-on-delete": "true",
            },
            False,
        ),
        ({}, False),
    ],
)
def test_whether_changes_that_cancel_each_other_leave_no_trace(options: dict[str, str], adds_up: bool) -> None:
    assert MergePlan.of(schema_of({"k": "BIGINT", "a": "INT", "d": "DECIMAL(9, 2)"}, options)).only_adds_up is adds_up


def test_sums_of_floats_are_not_exact() -> None:
    options = {**AGGREGATION, "fields.default-aggregate-function": "sum"}
    assert not MergePlan.of(schema_of({"k": "BIGINT", "f": "DOUBLE"}, options)).only_adds_up

"""The merge engines against models that take one record at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.errors import InvalidRows
from storage_engine.kernel import merge as merging
from storage_engine.kernel.merge import MergePlan, drop_retracts, gathered, merge, sort_by_key
from storage_engine.spec.schema import TableSchema
from tests.effort import examples
from tests.storage_engine.kernel.merge_models import (
    DELETE,
    INSERT,
    KIND,
    SEQUENCE,
    UPDATE_BEFORE,
    CannotMerge,
    Record,
    frame_of,
    merge_model,
    schema_of,
)

FEW = settings(max_examples=examples(30), deadline=None)
SMALL = st.none() | st.integers(-3, 3)
NUMBERS = st.none() | st.integers(-100, 100)
WORDS = st.none() | st.sampled_from(["", "a", "é", "zz", "😀"])
FLAGS = st.none() | st.booleans()
LISTS = st.none() | st.lists(st.integers(0, 2), max_size=3)
MAPS = st.none() | st.dictionaries(st.sampled_from("abc"), SMALL, max_size=3).map(
    lambda mapping: [{"key": key, "value": value} for key, value in mapping.items()]
)
ROWS = st.none() | st.lists(
    st.builds(lambda number, x: {"id": number, "x": x}, st.integers(0, 2), st.integers(0, 1)), max_size=3
)


def records_of(
    values: Mapping[str, st.SearchStrategy[Any]], *, kinds: Sequence[int]
) -> st.SearchStrategy[list[Record]]:
    """Records of few keys, with distinct sequence numbers in any order."""
    one = st.fixed_dictionaries({"k": st.integers(0, 7), **values, KIND: st.sampled_from(kinds)})

    def numbered(records: list[Record]) -> list[Record]:
        return [{**record, SEQUENCE: place * 7919 % 101} for place, record in enumerate(records)]

    return st.lists(one, max_size=32).map(numbered)


def canonical(rows: Sequence[Record], unordered: Sequence[str]) -> list[Record]:
    """Rows with lists of unspecified order sorted."""
    return [
        {name: sorted(value, key=repr) if name in unordered and value else value for name, value in row.items()}
        for row in rows
    ]


def check(
    records: Sequence[Record], schema: TableSchema, unordered: Sequence[str] = (), *, pass_through: bool = True
) -> None:
    plan = MergePlan.of(schema)
    frame = frame_of(records, schema)
    try:
        expected = merge_model(records, schema, pass_through=pass_through)
    except CannotMerge:
        with pytest.raises(InvalidRows):
            merge(frame, plan, pass_through=pass_through)
        return
    merged = merge(frame, plan, pass_through=pass_through)
    assert merged.schema == frame.schema
    columns = frame.columns
    ordered = [{name: row[name] for name in columns} for row in expected]
    assert canonical(merged.to_dicts(), unordered) == canonical(ordered, unordered)


ALL_KINDS, ADDS, NO_UPDATES = (0, 1, 2, 3), (0, 2), (0, 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sequence.field": "s"},
        {"sequence.field": "t,s"},
        {"ignore-delete": "true"},
        {"merge-engine": "first-row"},
        {"merge-engine": "first-row", "ignore-delete": "true"},
    ],
    ids=str,
)
@FEW
@given(data=st.data(), pass_through=st.booleans())
def test_engines_that_keep_one_record(options: dict[str, str], data: st.DataObject, pass_through: bool) -> None:
    schema = schema_of({"k": "BIGINT", "s": "INT", "t": "STRING", "v": "STRING"}, options)
    records = data.draw(records_of({"s": SMALL, "t": WORDS, "v": WORDS}, kinds=ALL_KINDS))
    # These engines do not change a lone record; first-row refuses a lone retract only where it is merged.
    check(records, schema, pass_through=True)
    if pass_through and not options:
        check(records, schema, pass_through=False)


AGGREGATED = {
    "sum8": ("TINYINT", "sum", NUMBERS),
    "sum64": ("BIGINT", "sum", NUMBERS),
    "last": ("INT", "last_value", SMALL),
    "known": ("STRING", "last_non_null_value", WORDS),
    "plain": ("INT", None, SMALL),
}
INSERT_ONLY = {
    "product": ("SMALLINT", "product", NUMBERS),
    "high": ("STRING", "max", WORDS),
    "low": ("STRING", "min", WORDS),
    "both": ("BOOLEAN", "bool_and", FLAGS),
    "any": ("BOOLEAN", "bool_or", FLAGS),
    "first": ("INT", "first_value", SMALL),
    "earliest": ("INT", "first_non_null_value", SMALL),
    "words": ("STRING", "listagg", WORDS),
}
NESTED = {
    "all": ("ARRAY<INT>", "collect", LISTS),
    "set": ("ARRAY<INT>", "collect", LISTS),
    "map": ("MAP<STRING, INT>", "merge_map", MAPS),
    "rows": ("ARRAY<ROW<id INT, x INT>>", "nested_update", ROWS),
    "by_id": ("ARRAY<ROW<id INT, x INT>>", "nested_update", ROWS),
}
NESTED_OPTIONS = {"fields.set.distinct": "true", "fields.by_id.nested-key": "id"}
UNORDERED = ("set", "map", "by_id")


def aggregation(columns: Mapping[str, tuple[str, str | None, Any]], options: Mapping[str, str]) -> TableSchema:
    functions = {
        f"fields.{name}.aggregate-function": function for name, (_, function, _) in columns.items() if function
    }
    types = {"k": "BIGINT", **{name: text for name, (text, _, _) in columns.items()}}
    return schema_of(types, {"merge-engine": "aggregation", **functions, **options})


def strategies(columns: Mapping[str, tuple[str, str | None, Any]]) -> dict[str, st.SearchStrategy[Any]]:
    return {name: strategy for name, (_, _, strategy) in columns.items()}


@FEW
@given(data=st.data(), pass_through=st.booleans())
@pytest.mark.parametrize(
    "options", [{}, {"sequence.field": "last"}, {"aggregation.remove-record-on-delete": "true"}], ids=str
)
def test_aggregation_with_retracts(options: dict[str, str], data: st.DataObject, pass_through: bool) -> None:
    records = data.draw(records_of(strategies(AGGREGATED), kinds=ALL_KINDS))
    check(records, aggregation(AGGREGATED, options), pass_through=pass_through)


@FEW
@given(data=st.data())
def test_aggregation_of_adds(data: st.DataObject) -> None:
    records = data.draw(records_of(strategies(INSERT_ONLY), kinds=ADDS))
    check(records, aggregation(INSERT_ONLY, {"fields.words.list-agg-delimiter": "; "}))


@FEW
@given(data=st.data())
def test_aggregation_of_adds_that_ignores_retracts(data: st.DataObject) -> None:
    records = data.draw(records_of(strategies(INSERT_ONLY), kinds=ALL_KINDS))
    check(records, aggregation(INSERT_ONLY, {f"fields.{name}.ignore-retract": "true" for name in INSERT_ONLY}))


@FEW
@given(data=st.data(), pass_through=st.booleans())
def test_aggregation_of_nested_columns(data: st.DataObject, pass_through: bool) -> None:
    records = data.draw(records_of(strategies(NESTED), kinds=ALL_KINDS))
    check(records, aggregation(NESTED, NESTED_OPTIONS), UNORDERED, pass_through=pass_through)


@FEW
@given(data=st.data())
def test_aggregation_of_nested_columns_up_to_a_limit(data: st.DataObject) -> None:
    columns = {"rows": NESTED["rows"]}
    records = data.draw(records_of(strategies(columns), kinds=ADDS))
    check(records, aggregation(columns, {"fields.rows.count-limit": "2"}))


@pytest.mark.parametrize("function", ["max", "min", "listagg", "first_value"])
def test_a_retract_that_a_function_cannot_take_back_is_refused(function: str) -> None:
    schema = schema_of(
        {"k": "INT", "v": "STRING"}, {"merge-engine": "aggregation", "fields.v.aggregate-function": function}
    )
    rows = [
        {"k": 1, "v": "a", SEQUENCE: 0, KIND: INSERT},
        {"k": 1, "v": "a", SEQUENCE: 1, KIND: UPDATE_BEFORE},
    ]
    with pytest.raises(InvalidRows, match="ignore-retract"):
        merge(frame_of(rows, schema), MergePlan.of(schema))


PLAIN = {"a": SMALL, "b": WORDS, "c": SMALL}
PLAIN_TYPES = {"k": "BIGINT", "a": "INT", "b": "STRING", "c": "INT"}


@FEW
@given(data=st.data(), pass_through=st.booleans())
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sequence.field": "a"},
        {"ignore-delete": "true"},
        {"partial-update.remove-record-on-delete": "true"},
        {"fields.default-aggregate-function": "last_non_null_value"},
    ],
    ids=str,
)
def test_partial_update_without_groups(options: dict[str, str], data: st.DataObject, pass_through: bool) -> None:
    schema = schema_of(PLAIN_TYPES, {"merge-engine": "partial-update", **options})
    records = data.draw(records_of(PLAIN, kinds=ALL_KINDS))
    if options.get("ignore-delete") and not pass_through:
        records = [record for record in records if record[KIND] in ADDS]
    check_visible(records, schema, pass_through=pass_through)


def check_visible(records: Sequence[Record], schema: TableSchema, *, pass_through: bool = True) -> None:
    """As ``check``, but of keys that were removed only their absence counts where retracts are ignored."""
    if not schema.table_options.ignore_delete:
        check(records, schema, pass_through=pass_through)
        return
    expected = [
        {name: row[name] for name in (*schema.column_names, SEQUENCE, KIND)}
        for row in merge_model(records, schema, pass_through=pass_through)
        if row[KIND] in ADDS
    ]
    merged = merge(frame_of(records, schema), MergePlan.of(schema), pass_through=pass_through)
    assert drop_retracts(merged).to_dicts() == expected


GROUPED_TYPES = {
    "k": "BIGINT",
    "a": "INT",
    "g1": "INT",
    "b": "STRING",
    "c": "INT",
    "g2": "INT",
    "h2": "STRING",
    "d": "INT",
}
GROUPED = {"a": SMALL, "g1": SMALL, "b": WORDS, "c": SMALL, "g2": SMALL, "h2": WORDS, "d": SMALL}
GROUPS = {"merge-engine": "partial-update", "fields.g1.sequence-group": "a,b", "fields.g2,h2.sequence-group": "c"}


@FEW
@given(data=st.data(), pass_through=st.booleans())
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore-delete": "true"},
        {"partial-update.remove-record-on-sequence-group": "g1"},
        {"partial-update.remove-record-on-sequence-group": "g1,g2"},
        {"fields.a.aggregate-function": "sum", "fields.b.aggregate-function": "last_non_null_value"},
        {"fields.a.aggregate-function": "last_value", "fields.c.aggregate-function": "sum"},
        {
            "fields.a.aggregate-function": "sum",
            "fields.b.aggregate-function": "last_non_null_value",
            "partial-update.remove-record-on-sequence-group": "g2",
        },
    ],
    ids=str,
)
def test_partial_update_with_sequence_groups(options: dict[str, str], data: st.DataObject, pass_through: bool) -> None:
    schema = schema_of(GROUPED_TYPES, {**GROUPS, **options})
    records = data.draw(records_of(GROUPED, kinds=ALL_KINDS))
    if options.get("ignore-delete") and not pass_through:
        records = [record for record in records if record[KIND] in ADDS]
    check_visible(records, schema, pass_through=pass_through)


@FEW
@given(data=st.data())
@pytest.mark.parametrize("function", ["max", "first_value", "listagg"])
def test_partial_update_with_functions_that_only_add(function: str, data: st.DataObject) -> None:
    schema = schema_of(GROUPED_TYPES, {**GROUPS, "fields.b.aggregate-function": function})
    check(data.draw(records_of(GROUPED, kinds=ADDS)), schema)


@FEW
@given(data=st.data())
def test_partial_update_with_nested_functions(data: st.DataObject) -> None:
    columns = {name: NESTED[name] for name in ("all", "map", "by_id")}
    functions = {f"fields.{name}.aggregate-function": function or "" for name, (_, function, _) in columns.items()}
    types = {"k": "BIGINT", "g": "INT", **{name: text for name, (text, _, _) in columns.items()}}
    options = {"merge-engine": "partial-update", "fields.g.sequence-group": ",".join(columns), **functions}
    schema = schema_of(types, {**options, "fields.by_id.nested-key": "id"})
    records = data.draw(records_of({"g": SMALL, **strategies(columns)}, kinds=ALL_KINDS))
    check(records, schema, ("all", "map", "by_id"))


@FEW
@given(data=st.data())
def test_groups_are_merged_apart_and_lead_the_order(data: st.DataObject) -> None:
    schema = schema_of({"k": "BIGINT", "v": "STRING"})
    records = data.draw(records_of({"p": st.integers(0, 2), "v": WORDS}, kinds=ALL_KINDS))
    frame = frame_of(records, schema, p=pl.Int32())
    merged = merge(frame, MergePlan.of(schema), group=("p",))
    expected = merge_model(records, schema, group=("p",))
    assert merged.to_dicts() == [{name: row[name] for name in frame.columns} for row in expected]


@FEW
@given(data=st.data())
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore-delete": "true"},
        {"merge-engine": "aggregation"},
        {"merge-engine": "partial-update", "ignore-delete": "true"},
    ],
    ids=str,
)
def test_merging_sorted_rows_is_merging(options: dict[str, str], data: st.DataObject) -> None:
    schema = schema_of({"k": "BIGINT", "v": "STRING"}, options)
    frame = frame_of(data.draw(records_of({"v": WORDS}, kinds=ALL_KINDS)), schema)
    plan = MergePlan.of(schema)
    assert merge(sort_by_key(frame, plan), plan, presorted=True).equals(merge(frame, plan))


def test_string_keys_are_ordered_by_their_bytes() -> None:
    schema = schema_of({"k": "STRING", "j": "BOOLEAN"}, primary_keys=("k", "j"))
    keys = ["￿", "😀", "é", "z", "", "Z"]
    rows = [{"k": key, "j": flag, SEQUENCE: 0, KIND: INSERT} for key in keys for flag in (True, False)]
    merged = merge(frame_of(rows, schema), MergePlan.of(schema))
    assert merged.select("k", "j").rows() == [
        (key, flag) for key in sorted(keys, key=str.encode) for flag in (False, True)
    ]


@FEW
@given(data=st.data())
@pytest.mark.parametrize("wanted", [("d",), ("b",), ("c",), ("h2",), ("g1", "d")], ids=str)
def test_a_restricted_merge_gives_the_same_columns(wanted: tuple[str, ...], data: st.DataObject) -> None:
    options = {**GROUPS, "partial-update.remove-record-on-sequence-group": "g1", "fields.c.aggregate-function": "sum"}
    schema = schema_of(GROUPED_TYPES, options)
    plan = MergePlan.of(schema)
    frame = frame_of(data.draw(records_of(GROUPED, kinds=ALL_KINDS)), schema)
    needed = plan.columns_needed(wanted)
    narrow = merge(frame.select(*needed, SEQUENCE, KIND), plan.restricted(wanted))
    shown = ["k", *wanted, SEQUENCE, KIND]
    assert narrow.select(shown).equals(merge(frame, plan).select(shown))


def test_sums_of_short_decimals_go_beyond_their_precision_and_of_long_ones_become_null() -> None:
    options = {"merge-engine": "aggregation", "fields.default-aggregate-function": "sum"}
    schema = schema_of({"k": "INT", "short": "DECIMAL(5, 2)", "long": "DECIMAL(20, 0)"}, options)
    rows = [
        {"k": 1, "short": "999.99", "long": "99999999999999999999", SEQUENCE: 0, KIND: INSERT},
        {"k": 1, "short": "0.01", "long": "1", SEQUENCE: 1, KIND: INSERT},
    ]
    texts = pl.DataFrame(rows).with_columns(
        pl.col("short").cast(pl.Decimal(5, 2)), pl.col("long").cast(pl.Decimal(20, 0))
    )
    frame = texts.cast({"k": pl.Int32, KIND: pl.Int8})
    merged = merge(frame, MergePlan.of(schema))
    assert merged.schema == frame.schema
    assert merged["short"][0] == Decimal("1000.00")
    assert merged["long"][0] is None


def test_sums_beyond_what_128_bits_hold_are_null_too() -> None:
    options = {"merge-engine": "aggregation", "fields.default-aggregate-function": "sum"}
    schema = schema_of({"k": "INT", "v": "DECIMAL(38, 0)"}, options)
    most = Decimal("9" * 38)
    values: dict[int, list[Decimal | None]] = {1: [most, Decimal(1)], 2: [], 3: [most] * 6, 4: [None, None]}
    with localcontext(prec=50):
        values[2] = [most - 9, Decimal(9)]
    rows = [(key, value) for key, group in values.items() for value in group]
    records = [{"k": key, "v": value, SEQUENCE: at, KIND: INSERT} for at, (key, value) in enumerate(rows)]
    assert merge(frame_of(records, schema), MergePlan.of(schema))["v"].to_list() == [None, most, None, None]


@pytest.mark.parametrize(
    ("text", "values", "low", "high"),
    [
        ("DOUBLE", [1.5, float("nan"), -2.0], -2.0, float("nan")),
        ("FLOAT", [float("nan"), None, float("nan")], float("nan"), float("nan")),
        ("DATE", [date(2024, 1, 1), None, date(1960, 1, 1)], date(1960, 1, 1), date(2024, 1, 1)),
        ("DECIMAL(30, 2)", [Decimal("1.50"), Decimal("-7.25"), None], Decimal("-7.25"), Decimal("1.50")),
        ("BYTES", [b"\x7f", b"\x80", b""], b"", b"\x80"),
        ("INT", [None, None, None], None, None),
    ],
)
def test_extremes_of_each_kind_of_column(text: str, values: list[Any], low: Any, high: Any) -> None:
    options = {
        "merge-engine": "aggregation",
        "fields.a.aggregate-function": "min",
        "fields.b.aggregate-function": "max",
    }
    schema = schema_of({"k": "INT", "a": text, "b": text}, options)
    records = [{"k": 1, "a": value, "b": value, SEQUENCE: at, KIND: INSERT} for at, value in enumerate(values)]
    merged = merge(frame_of(records, schema), MergePlan.of(schema)).select("a", "b")
    expected = pl.DataFrame({"a": [low], "b": [high]}, schema=merged.schema)
    assert merged.equals(expected)


def test_floats_are_summed_and_taken_back() -> None:
    options = {"merge-engine": "aggregation", "fields.v.aggregate-function": "sum"}
    schema = schema_of({"k": "INT", "v": "FLOAT"}, options)
    records = [(1, 1.5, INSERT), (1, 2.25, INSERT), (1, 0.75, DELETE), (2, None, INSERT), (2, None, INSERT)]
    rows = [{"k": key, "v": value, SEQUENCE: at, KIND: kind} for at, (key, value, kind) in enumerate(records)]
    assert merge(frame_of(rows, schema), MergePlan.of(schema))["v"].to_list() == [3.0, None]


def test_an_empty_frame_stays_empty() -> None:
    schema = schema_of({"k": "INT", "v": "STRING"}, {"merge-engine": "aggregation"})
    frame = frame_of([], schema)
    assert merge(frame, MergePlan.of(schema)).equals(frame)


def test_a_delete_alone_is_passed_through_with_its_values() -> None:
    schema = schema_of({"k": "INT", "v": "INT"}, {"merge-engine": "aggregation", "fields.v.aggregate-function": "sum"})
    frame = frame_of([{"k": 1, "v": 5, SEQUENCE: 3, KIND: DELETE}], schema)
    assert merge(frame, MergePlan.of(schema)).equals(frame)
    assert merge(frame, MergePlan.of(schema), pass_through=False).row(0) == (1, -5, 3, INSERT)


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        ({"fields.default-aggregate-function": "sum"}, (0, 1, 2, 3)),
        ({"fields.a.aggregate-function": "max", "fields.b.aggregate-function": "first_value"}, (0, 2)),
        ({"fields.default-aggregate-function": "last_non_null_value"}, (0, 2)),
        ({"fields.default-aggregate-function": "sum", "aggregation.remove-record-on-delete": "true"}, (0, 3)),
    ],
)
def test_rows_gathered_by_key_merge_to_the_same(
    options: dict[str, str], kinds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "_WORTH_GATHERING", 100)
    monkeypatch.setattr(merging, "_SAMPLED", 1_000)
    columns = {"p": "STRING", "k": "BIGINT", "a": "INT", "b": "BIGINT"}
    schema = schema_of(
        columns, {"merge-engine": "aggregation", **options}, primary_keys=("p", "k"), partition_keys=("p",)
    )
    rng = np.random.default_rng(3)
    rows = 2_000
    values = [None if value < 0 else value for value in rng.integers(-20, 100, rows).tolist()]
    frame = pl.DataFrame(
        {
            "p": rng.choice(["x", "y"], rows),
            "k": rng.integers(0, 40, rows),
            "a": pl.Series(values, dtype=pl.Int32),
            "b": rng.integers(0, 100, rows),
            KIND: pl.Series(rng.choice(kinds, rows), dtype=pl.Int8),
        }
    )
    plan = MergePlan.of(schema)
    few = gathered(frame, plan, schema.primary_keys)
    assert few.height == frame.select("p", "k").n_unique()
    assert few.select("p", "k").equals(frame.select("p", "k").unique(maintain_order=True))
    numbered = (each.with_columns(pl.int_range(pl.len()).alias(SEQUENCE)) for each in (frame, few))
    whole, parts = (merge(each, plan, group=("p",)).drop(SEQUENCE) for each in numbered)
    assert parts.select(whole.columns).equals(whole)
    apart = frame.with_columns(pl.int_range(pl.len()).alias("k"))
    assert gathered(apart, plan, schema.primary_keys) is apart

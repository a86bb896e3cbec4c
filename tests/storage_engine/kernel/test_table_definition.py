"""Definitions that are refused, and options in Paimon's own words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from storage_engine.errors import InvalidOption, StorageEngineError
from storage_engine.kernel.table_definition import check_table_definition, normalized_options
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.spec.types import DataField, parse_type

COLUMNS = {"dt": "STRING", "id": "STRING", "a": "INT", "t": "TIMESTAMP(3)", "l": "ARRAY<INT>"}


def table(options: Mapping[str, str], keys: Sequence[str] = ("dt", "id")) -> TableSchema:
    columns = [DataField(id=0, name=name, type=parse_type(text)) for name, text in COLUMNS.items()]
    return create_schema(columns, primary_keys=keys, partition_keys=["dt"], options=options)


def test_short_names_of_aggregate_functions_are_kept_in_full():
    given = {
        "fields.a.aggregate-function": " last_non_null ",
        "fields.default-aggregate-function": "last_non_null",
        "fields.a.list-agg-delimiter": "last_non_null",
        "connector": "paimon",
        "a": "last_non_null",
    }
    assert normalized_options(given) == {
        "fields.a.aggregate-function": "last_non_null_value",
        "fields.default-aggregate-function": "last_non_null_value",
        "fields.a.list-agg-delimiter": "last_non_null",
        "a": "last_non_null",
    }


def test_another_connector_is_refused():
    with pytest.raises(InvalidOption, match="connector"):
        normalized_options({"connector": "kafka"})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bucket": "4", "sequence.field": "t", "deletion-vectors.enabled": "true", "async-file-write": "true"},
        {"bucket": "-2"},
        {"merge-engine": "aggregation", "fields.a.aggregate-function": "sum", "changelog-producer": "lookup"},
        {"merge-engine": "first-row", "changelog-producer": "lookup"},
        {"no-such-option": "kept", "partition.expiration-time": "7 d"},
        {"bucket": "2", "bucket-key": "id"},
        {"scan.mode": "from-snapshot", "scan.snapshot-id": "3"},
        {"row-tracking.enabled": "false"},
    ],
)
def test_sound_definitions_pass(options: Mapping[str, str]):
    check_table_definition(table(options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/tmp/x"}, "'path' cannot be set"),
        ({"primary-key": "id"}, "declare PRIMARY KEY"),
        ({"branch": "b"}, "name the branch when"),
        ({"row-tracking.enabled": "true"}, "row tracking"),
        ({"bucket": "0"}, "'bucket' is 0"),
        ({"bucket": "-3"}, "'bucket' is -3"),
        ({"bucket": "four"}, "'bucket' is 'four'"),
        ({"bucket-key": "id"}, "needs a number of buckets"),
        ({"bucket": "2", "bucket-key": "x"}, "names 'x', which is not a column"),
        ({"bucket": "2", "bucket-key": "dt"}, "names 'dt'"),
        ({"bucket": "2", "bucket-key": "a"}, "names 'a'"),
        ({"bucket": "2", "bucket-function.type": "mod", "bucket-key": "id,a"}, "bucket-key"),
        ({"merge-engine": "newest"}, "merge-engine"),
        ({"sequence.field": "nope"}, "names 'nope'"),
        ({"sequence.field": "l"}, "sequence.field"),
        ({"fields.nope.aggregate-function": "sum"}, "names 'nope'"),
        ({"merge-engine": "aggregation", "fields.a.aggregate-function": "mean"}, "mean"),
        ({"merge-engine": "first-row", "sequence.field": "t"}, "first-row"),
        ({"merge-engine": "first-row", "changelog-producer": "input"}, "first-row"),
        ({"merge-engine": "first-row", "deletion-vectors.enabled": "true"}, "first-row"),
        ({"deletion-vectors.enabled": "true", "changelog-producer": "full-compaction"}, "full-compaction"),
        ({"streaming-read-overwrite": "true", "changelog-producer": "lookup"}, "read twice"),
        ({"rowkind.field": "nope"}, "names 'nope'"),
        ({"record-level.time-field": "nope"}, "names 'nope'"),
        ({"scan.snapshot-id": "3"}, "scan.mode"),
        ({"snapshot.num-retained.min": "5", "snapshot.num-retained.max": "2"}, "smaller"),
        ({"snapshot.time-retained": "soon"}, "snapshot.time-retained"),
    ],
)
def test_definitions_that_would_read_wrong_are_refused(options: Mapping[str, str], message: str):
    with pytest.raises(StorageEngineError, match=message):
        check_table_definition(table(options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"changelog-producer": "input"}, "needs a primary key"),
        ({"merge-engine": "aggregation"}, "needs a primary key"),
        ({"sequence.field": "t"}, "needs a primary key"),
        ({"bucket": "-2"}, "needs a primary key"),
        ({"bucket": "4"}, "needs 'bucket-key'"),
        ({"full-compaction.delta-commits": "4"}, "needs a primary key or"),
        ({"bucket": "4", "bucket-key": "l"}, "cannot be hashed"),
    ],
)
def test_append_tables_have_their_own_limits(options: Mapping[str, str], message: str):
    with pytest.raises(StorageEngineError, match=message):
        check_table_definition(table(options, keys=()))
    check_table_definition(table({"bucket": "4", "bucket-key": "id"}, keys=()))

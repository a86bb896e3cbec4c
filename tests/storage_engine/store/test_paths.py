"""Names of files and directories, against those of Paimon 1.3.1."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from storage_engine.errors import CorruptFile, InvalidInput, InvalidRows, Unsupported
from storage_engine.options import TableOptions
from storage_engine.spec.types import DataType, TypeRoot, parse_type
from storage_engine.store.paths import (
    FileNames,
    TablePaths,
    branch_names_in,
    check_given_name,
    check_stored_name,
    partition_path,
    schema_ids_in,
    snapshot_ids_in,
    tag_names_in,
)

VECTORS = json.loads((Path(__file__).parents[2] / "golden" / "partition_directories.json").read_text())
LEGACY, PLAIN = TableOptions(), TableOptions(partition_legacy_name=False)


def value_of(data_type: DataType, value: Any) -> Any:
    if value is not None and data_type.root is TypeRoot.DATE:
        return date.fromisoformat(value)
    if value is not None and data_type.root is TypeRoot.TIMESTAMP:
        return datetime.fromisoformat(value)
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.get("legacy_dir") or vector["dir"])
def test_partitions_of_paimon(vector: dict[str, Any]) -> None:
    types = [parse_type(text) for text in vector["types"]]
    expected = vector.get("legacy_dir") or vector["dir"]
    names = [part.split("=")[0] for part in expected.split("/")]
    values = [value_of(data_type, value) for data_type, value in zip(types, vector["values"], strict=True)]
    assert partition_path(types, names, values, PLAIN if "dir" in vector else LEGACY) == expected


@pytest.mark.parametrize(
    ("text", "value", "legacy", "plain"),
    [
        ("DECIMAL(9, 2)", Decimal("5.10"), "5.10", "5.10"),
        ("BIGINT", -7, "-7", "-7"),
        ("BOOLEAN", False, "false", "false"),
        ("STRING", " \t", "__DEFAULT_PARTITION__", "__DEFAULT_PARTITION__"),
        ("STRING", "\xa0", "\xa0", "\xa0"),
        ("STRING", "../x", "..%2Fx", "..%2Fx"),
        ("STRING", "한글 @", "한글 @", "한글 @"),
        ("STRING", "\x01^", "%01%5E", "%01%5E"),
        ("TIMESTAMP(3)", datetime(2024, 3, 1, 12), "2024-03-01T12%3A00", "2024-03-01 12%3A00%3A00.000"),
        ("TIMESTAMP(0)", datetime(2024, 3, 1, 12, 0, 5), "2024-03-01T12%3A00%3A05", "2024-03-01 12%3A00%3A05"),
        ("TIMESTAMP(6)", datetime(1969, 12, 31, 23, 59, 59, 999000), "1969-12-31T23%3A59%3A59.999", None),
        ("TIMESTAMP(9)", 1709296496123456789, "2024-03-01T12%3A34%3A56.123456789", None),
        ("TIMESTAMP(3) WITH LOCAL TIME ZONE", datetime(2024, 3, 1, 12, tzinfo=UTC), "2024-03-01T12%3A00", None),
        ("TIME(0)", time(12, 34, 56), "45296000", "12%3A34%3A56"),
        ("TIME(3)", time(12, 34, 56, 120000), "45296120", "12%3A34%3A56.12"),
    ],
)
def test_values_as_directories(text: str, value: object, legacy: str, plain: str | None) -> None:
    assert partition_path([parse_type(text)], ["p"], [value], LEGACY) == f"p={legacy}"
    if plain is not None:
        assert partition_path([parse_type(text)], ["p"], [value], PLAIN) == f"p={plain}"


def test_values_that_no_directory_can_carry_are_refused() -> None:
    with pytest.raises(InvalidRows, match=r"'p'.*NUL"):
        partition_path([parse_type("STRING")], ["p"], ["a\0b"], LEGACY)
    with pytest.raises(InvalidRows, match="years"):
        partition_path([parse_type("TIMESTAMP(9)")], ["p"], [10**21], LEGACY)
    with pytest.raises(Unsupported, match="legacy-name"):
        partition_path(
            [parse_type("TIMESTAMP(3) WITH LOCAL TIME ZONE")], ["p"], [datetime(2024, 1, 1, tzinfo=UTC)], PLAIN
        )


def test_files_of_main_and_of_a_branch() -> None:
    main, branch = TablePaths("/w/db.db/t"), TablePaths("/w/db.db/t", "repair")
    assert main.schema_file(3) == "/w/db.db/t/schema/schema-3"
    assert main.snapshot_file(7) == "/w/db.db/t/snapshot/snapshot-7"
    assert branch.snapshot_file(7) == "/w/db.db/t/branch/branch-repair/snapshot/snapshot-7"
    assert branch.tag_file("a") == "/w/db.db/t/branch/branch-repair/tag/tag-a"
    assert branch.consumer_file("c") == "/w/db.db/t/branch/branch-repair/consumer/consumer-c"
    assert branch.changelog_file(7) == "/w/db.db/t/branch/branch-repair/changelog/changelog-7"
    assert branch.manifest_file("m") == main.manifest_file("m") == "/w/db.db/t/manifest/m"
    assert branch.index_file("i") == main.index_file("i") == "/w/db.db/t/index/i"
    assert branch.statistics_file("s") == "/w/db.db/t/statistics/s"
    assert branch.bucket_directory("p=1", 0) == "/w/db.db/t/p=1/bucket-0"
    assert main.bucket_directory("", -2) == "/w/db.db/t/bucket-postpone"
    assert main.of_branch("repair") == branch


def test_numbers_in_listings() -> None:
    names = [
        "snapshot-2",
        "snapshot-10",
        "LATEST",
        "snapshot-",
        "snapshot-01",
        "snapshot-x",
        ".snapshot-3.tmp",
        "snapshot-9" * 9,
    ]
    assert snapshot_ids_in(names) == [2, 10]
    assert schema_ids_in(["schema-0", "schema-1", "snapshot-5"]) == [0, 1]
    assert tag_names_in(["tag-b", "tag-a", "tag-", "x"]) == ["a", "b"]
    assert branch_names_in(["branch-x", "other"]) == ["x"]


def test_new_names_are_never_equal() -> None:
    first, second = FileNames("data-", ".parquet"), FileNames("data-", ".parquet")
    names = [first.next(), first.next(), second.next()]
    assert len(set(names)) == 3
    assert names[0].endswith("-0.parquet")
    assert names[1].endswith("-1.parquet")


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", ".", "..", "a\0b", None, 5])
def test_a_path_in_metadata_is_refused(name: object) -> None:
    with pytest.raises(CorruptFile, match="the list"):
        check_stored_name(name, path="the list")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "  ", "a\nb", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="tag"):
        check_given_name(name, "tag")

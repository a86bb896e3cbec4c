"""Databases and tables by name, on a local disk and in memory."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from storage_engine import Catalog, Table
from storage_engine.errors import (
    AlreadyExists,
    BranchNotFound,
    DatabaseNotFound,
    InvalidInput,
    InvalidOption,
    InvalidSchema,
    TableNotFound,
)

COLUMNS = {"id": "STRING", "v": "INT"}


@pytest.fixture(params=["local", "memory"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    return Catalog(str(tmp_path / "wh") if request.param == "local" else f"memory://wh-{uuid.uuid4()}/deep")


@pytest.fixture
def ods(catalog: Catalog) -> Catalog:
    catalog.create_database("ods")
    return catalog


def upsert(table: Table, **columns: list[object]) -> None:
    table.write(pl.DataFrame(columns, schema={name: table.schema.polars_schema[name] for name in columns}))


def test_databases_come_and_go(catalog: Catalog):
    assert catalog.list_databases() == []
    catalog.create_database("b")
    catalog.create_database("a")
    assert catalog.list_databases() == ["a", "b"]
    with pytest.raises(AlreadyExists, match="database 'a'"):
        catalog.create_database("a")
    catalog.create_database("a", ignore_if_exists=True)
    catalog.drop_database("a")
    assert catalog.list_databases() == ["b"]
    with pytest.raises(DatabaseNotFound, match=r"no database 'a'.*databases: b"):
        catalog.drop_database("a")
    catalog.drop_database("a", ignore_if_missing=True)


def test_a_database_that_holds_tables_is_dropped_only_with_them(ods: Catalog):
    ods.create_table("ods.t", COLUMNS)
    with pytest.raises(InvalidInput, match=r"holds 1 tables \(t\).*CASCADE"):
        ods.drop_database("ods")
    ods.drop_database("ods", cascade=True)
    assert ods.list_databases() == []


def test_tables_come_and_go(ods: Catalog):
    table = ods.create_table("ods.t", COLUMNS, primary_key=["id"], options={"bucket": "2"}, comment="c")
    assert (table.name, table.schema.comment, table.schema.options) == ("ods.t", "c", {"bucket": "2"})
    assert [str(column.type) for column in table.schema.fields] == ["STRING NOT NULL", "INT"]
    assert ods.list_tables("ods") == ["t"]
    with pytest.raises(AlreadyExists, match=r"table ods\.t"):
        ods.create_table("ods.t", COLUMNS)
    kept = ods.create_table("ods.t", {"other": "INT"}, ignore_if_exists=True)
    assert kept.schema.column_names == ("id", "v")
    ods.drop_table("ods.t")
    assert ods.list_tables("ods") == []
    with pytest.raises(TableNotFound):
        ods.drop_table("ods.t")
    ods.drop_table("ods.t", ignore_if_missing=True)


def test_a_table_created_anew_knows_nothing_of_the_old_one(ods: Catalog):
    old = ods.create_table("ods.t", COLUMNS, primary_key=["id"], options={"bucket": "1"})
    upsert(old, id=["a"], v=[1])
    old.create_tag("tag")
    old.create_branch("side", tag="tag")
    ods.drop_table("ods.t")
    new = ods.create_table("ods.t", {"id": "STRING", "w": "BIGINT"}, primary_key=["id"], options={"bucket": "1"})
    assert new.latest_snapshot() is None
    assert new.scan().collect().is_empty()
    assert new.branches().is_empty()
    assert new.tags().is_empty()
    upsert(new, id=["b"], w=[2])
    assert new.scan().collect().rows() == [("b", 2)]


def test_a_renamed_table_keeps_its_rows(ods: Catalog):
    upsert(ods.create_table("ods.a", COLUMNS, primary_key=["id"], options={"bucket": "1"}), id=["a"], v=[1])
    ods.create_database("dwd")
    ods.rename_table("ods.a", "dwd.b")
    assert (ods.list_tables("ods"), ods.list_tables("dwd")) == ([], ["b"])
    assert ods.table("dwd.b").scan().collect().rows() == [("a", 1)]
    ods.create_table("ods.c", COLUMNS)
    with pytest.raises(AlreadyExists, match=r"dwd\.b"):
        ods.rename_table("ods.c", "dwd.b")
    with pytest.raises(TableNotFound):
        ods.rename_table("ods.nope", "ods.x")
    with pytest.raises(DatabaseNotFound):
        ods.rename_table("ods.c", "nope.c")


def test_a_missing_table_is_told_with_near_names(ods: Catalog):
    ods.create_table("ods.member_order", COLUMNS)
    for name in ("ods.member_orders", "od.member_order", "dwd.member_order"):
        with pytest.raises(TableNotFound, match=r"did you mean ods\.member_order\?"):
            ods.table(name)
    with pytest.raises(TableNotFound, match=r"tables: ods\.member_order"):
        ods.table("ods.zzz")


def test_the_default_database_is_there_when_it_is_used(catalog: Catalog):
    catalog.create_table("t", COLUMNS)
    assert catalog.list_tables("default") == catalog.list_tables() == ["t"]
    with pytest.raises(DatabaseNotFound, match="no database 'ods'"):
        catalog.create_table("ods.t", COLUMNS)


def test_branches_are_opened_by_name_and_by_argument(ods: Catalog):
    table = ods.create_table("ods.t", COLUMNS, primary_key=["id"], options={"bucket": "1"})
    upsert(table, id=["a"], v=[1])
    table.create_tag("now")
    table.create_branch("side", tag="now")
    side = ods.table("ods.t$branch_side")
    assert side.name == ods.table("ods.t", branch="side").name == "ods.t$branch_side"
    upsert(side, id=["b"], v=[2])
    assert sorted(side.scan().collect()["id"]) == ["a", "b"]
    assert table.scan().collect()["id"].to_list() == ["a"]
    assert ods.table("ods.t", branch="main").name == "ods.t"
    with pytest.raises(BranchNotFound, match=r"no branch 'sid'.*did you mean side"):
        ods.table("ods.t", branch="sid")
    with pytest.raises(InvalidInput, match="two branches"):
        ods.table("ods.t$branch_side", branch="other")
    with pytest.raises(InvalidInput, match="part of a table"):
        ods.drop_table("ods.t$branch_side")
    assert side.store.paths.branch == "side"
    assert ods.table("ods.t$branch_side$files").scan().collect().height == 2


@pytest.mark.parametrize("name", ["../evil", "ods.../evil", "ods.a/b", "ods.", ".t", "ods.t\x00", "a.b.c", "ods.a*"])
def test_names_cannot_leave_the_warehouse(ods: Catalog, name: str):
    for act in (lambda: ods.create_table(name, COLUMNS), lambda: ods.table(name), lambda: ods.drop_table(name)):
        with pytest.raises(InvalidInput, match="cannot be the name"):
            act()
    with pytest.raises(InvalidInput, match="name of a database"):
        ods.create_database("../evil")
    with pytest.raises(InvalidInput, match="name of a database"):
        ods.drop_database("..", cascade=True)


def test_what_is_refused_leaves_nothing_behind(ods: Catalog):
    for schema, arguments, error in [
        ({"id": "STRINGG"}, {}, InvalidSchema),
        ({"id": "ARRAY<" * 2000 + "INT" + ">" * 2000}, {}, InvalidSchema),
        (COLUMNS, {"primary_key": ["x"]}, InvalidSchema),
        (COLUMNS, {"options": {"bucket": "0"}}, InvalidOption),
        (COLUMNS, {"options": {"path": "/tmp/elsewhere"}}, InvalidOption),
        (COLUMNS, {"options": {"bucket": 4}}, InvalidInput),
        (pa.schema([("u", pa.uint64())]), {}, InvalidSchema),
    ]:
        with pytest.raises(error):
            ods.create_table("ods.t", schema, **arguments)  # type: ignore[arg-type]
    assert ods.list_tables("ods") == []


def test_the_wrong_column_is_named(ods: Catalog):
    with pytest.raises(InvalidSchema, match="column 'b': not a Paimon type: 'STRINGG'"):
        ods.create_table("ods.t", {"a": "INT", "b": "STRINGG"})


def test_an_arrow_schema_makes_a_table(ods: Catalog):
    schema = pa.schema([pa.field("id", pa.string()), pa.field("d", pa.decimal128(20, 4), nullable=False)])
    table = ods.create_table("ods.t", schema, primary_key=["id"])
    assert [str(column.type) for column in table.schema.fields] == ["STRING NOT NULL", "DECIMAL(20, 4) NOT NULL"]


def test_the_schema_of_a_frame_makes_a_table(ods: Catalog):
    dtypes = {
        "id": pl.String,
        "at": pl.Datetime("ms"),
        "amount": pl.Decimal(20, 4),
        "tags": pl.List(pl.Int32),
        "kind": pl.Enum(["a", "b"]),
    }
    frame = pl.DataFrame(schema=dtypes)
    table = ods.create_table("ods.t", frame.schema, primary_key=["id"])
    types = [str(column.type) for column in table.schema.fields]
    assert types == ["STRING NOT NULL", "TIMESTAMP(3)", "DECIMAL(20, 4)", "ARRAY<INT>", "STRING"]
    mixed = ods.create_table("ods.m", {"id": "BIGINT NOT NULL", "v": pl.Float32})
    assert [str(column.type) for column in mixed.schema.fields] == ["BIGINT NOT NULL", "FLOAT"]


@pytest.mark.parametrize("dtype", [pl.UInt8, pl.Object, pl.Null, 7, None])
def test_a_dtype_without_a_counterpart_is_refused(dtype: object, ods: Catalog):
    with pytest.raises(InvalidSchema, match="column 'v': "):
        ods.create_table("ods.t", {"v": dtype})  # type: ignore[arg-type]
    assert ods.list_tables("ods") == []


def test_short_function_names_are_kept_in_full(ods: Catalog):
    options = {"merge-engine": "aggregation", "fields.v.aggregate-function": "last_non_null"}
    table = ods.create_table("ods.t", COLUMNS, primary_key=["id"], options=options)
    assert table.schema.options["fields.v.aggregate-function"] == "last_non_null_value"


def test_one_of_many_creators_wins(ods: Catalog):
    def create(number: int) -> bool:
        try:
            ods.create_table("ods.t", {f"c{number}": "INT"})
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1
    assert len(ods.table("ods.t").schemas()) == 1


def test_credentials_are_never_shown():
    options = {"key": "AKIASECRET", "secret": "verysecret", "skip_instance_cache": True}
    catalog = Catalog("memory://user:pass@bucket/prefix?token=hidden", storage_options=options)
    assert repr(catalog) == "Catalog('memory://bucket/prefix')"
    with pytest.raises(TableNotFound) as error:
        catalog.table("a.b")
    for secret in ("AKIASECRET", "verysecret", "pass", "hidden"):
        assert secret not in str(error.value)


def test_the_directory_layout_is_paimons(tmp_path: Path):
    catalog = Catalog(f"file://{tmp_path}/wh")
    catalog.create_database("ods")
    catalog.create_table("ods.t", COLUMNS, primary_key=["id"], options={"bucket": "1"})
    schema = json.loads((tmp_path / "wh/ods.db/t/schema/schema-0").read_text())
    assert (schema["version"], schema["id"], schema["primaryKeys"]) == (3, 0, ["id"])
    assert "comment" not in schema


def test_stray_files_are_no_databases_and_no_tables(tmp_path: Path):
    catalog = Catalog(tmp_path)
    catalog.create_database("ods")
    (tmp_path / "runs.db").write_text("a SQLite file")
    (tmp_path / "ods.db/notes.txt").write_text("x")
    (tmp_path / "ods.db/empty").mkdir()
    assert catalog.list_databases() == ["ods"]
    assert catalog.list_tables("ods") == []

"""Text → statements."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.errors import SqlError
from storage_engine.spec.schema_change import (
    AddColumn,
    DropColumn,
    MoveColumn,
    Position,
    RemoveOption,
    RenameColumn,
    SetOption,
    UpdateColumnComment,
    UpdateColumnType,
)
from storage_engine.spec.types import DataField, parse_type
from storage_engine.sql.parser import parse_statement, parse_statements
from storage_engine.sql.statements import (
    AlterTable,
    Argument,
    Call,
    CreateDatabase,
    CreateTable,
    CreateView,
    Delete,
    DescribeTable,
    DropDatabase,
    DropPartitions,
    DropTable,
    DropView,
    Explain,
    Insert,
    Query,
    RenameTable,
    ShowCreateTable,
    ShowDatabases,
    ShowPartitions,
    ShowTables,
    UseDatabase,
)
from tests.effort import examples

CASE_STUDY = """
CREATE TABLE ods_member (                       -- deduplication with late events
    v_date STRING, id STRING, member_id BIGINT, agent_id STRING, product_id STRING,
    amount DECIMAL(20,4), status STRING, event_time TIMESTAMP,
    PRIMARY KEY (v_date, id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH (
    'merge-engine'='deduplicate', 'bucket'='4', 'sequence.field'='event_time', 'deletion-vectors.enabled'='true',
    'async-file-write'='true', 'sort-spill-threshold'='10', 'lookup-wait'='false', 'snapshot.num-retained.max'='10000');

INSERT INTO ods_member SELECT * FROM source_table;

CREATE VIEW view_ods_changelog AS SELECT * FROM ods_member;      -- downstream jobs read the view as a stream

CREATE TABLE agg_table (                        -- the short name last_non_null is used as it stands
    v_date STRING, agent_id STRING, score DECIMAL(20,4), update_time TIMESTAMP(3),
    PRIMARY KEY (v_date, agent_id) NOT ENFORCED
) PARTITIONED BY (v_date) WITH (
    'merge-engine'='aggregation', 'fields.score.aggregate-function'='sum',
    'fields.update_time.aggregate-function'='last_non_null');

SELECT t1.id, t1.product_id, prd_info.name AS product_name, prd_info.category, prd_info.category_name
FROM (SELECT id, product_id, PROCTIME() AS proc_time FROM source_table) AS t1
LEFT JOIN dim_order_info FOR SYSTEM_TIME AS OF t1.proc_time AS prd_info ON t1.product_id = prd_info.id;

INSERT INTO ods_member SELECT * FROM raw_table WHERE v_date BETWEEN '2024-01-01' AND '2024-01-01';     -- batch repair
"""


def test_the_case_studys_statements_parse_as_they_stand():
    table, insert, view, aggregation, join, repair = parse_statements(CASE_STUDY)
    assert isinstance(table, CreateTable)
    assert table.name == "ods_member"
    assert [column.name for column in table.columns][-1] == "event_time"
    assert (table.primary_keys, table.partition_keys) == (("v_date", "id"), ("v_date",))
    assert table.options["snapshot.num-retained.max"] == "10000"
    assert len(table.options) == 8
    assert insert == Insert(name="ods_member", query=Query(text="SELECT * FROM source_table", line=10, column=24))
    assert view == CreateView(
        name="view_ods_changelog", query=Query(text="SELECT * FROM ods_member", line=12, column=35)
    )
    assert isinstance(aggregation, CreateTable)
    assert aggregation.options["fields.update_time.aggregate-function"] == "last_non_null"
    assert isinstance(join, Query)
    assert join.text.endswith("t1.product_id = prd_info.id")
    assert isinstance(repair, Insert)
    assert repair.query.text.endswith("'2024-01-01'")


def test_create_table_takes_comments_quotes_and_every_clause():
    text = """/* first */ create table if not exists `db`.`my table` ( -- columns
      `or``der` INT NOT NULL COMMENT 'it''s; "the" id',
      b ROW<x INT, `y z` ARRAY<MAP<STRING NOT NULL, BYTES>> NOT NULL COMMENT 'in'>,
      CONSTRAINT pk PRIMARY KEY (`or``der`) NOT ENFORCED
    ) COMMENT 'a -- table' PARTITIONED BY (dt, hh) WITH ('k' = 'v;''w''', 'fields.a.x' = '')"""
    assert parse_statement(text) == CreateTable(
        name="db.my table",
        columns=(
            _field(0, "or`der", "INT NOT NULL", 'it\'s; "the" id'),
            _row_with_comment(),
        ),
        primary_keys=("or`der",),
        partition_keys=("dt", "hh"),
        options={"k": "v;'w'", "fields.a.x": ""},
        comment="a -- table",
        if_not_exists=True,
    )


def _field(position, name, type_text, comment=None):
    return DataField(id=position, name=name, type=parse_type(type_text), description=comment)


def _row_with_comment():
    column = _field(1, "b", "ROW<x INT, `y z` ARRAY<MAP<STRING NOT NULL, BYTES>> NOT NULL>")
    first, second = column.type.fields
    return replace(column, type=replace(column.type, fields=(first, replace(second, description="in"))))


@pytest.mark.parametrize(
    "type_text",
    [
        "BOOLEAN", "TINYINT", "SMALLINT", "INT", "INTEGER", "BIGINT", "FLOAT", "DOUBLE", "DOUBLE PRECISION",
        "DECIMAL", "DECIMAL(38)", "DEC(10,2)", "NUMERIC(20, 4)", "CHAR", "CHAR(7)", "VARCHAR(255)", "STRING",
        "BINARY(3)", "VARBINARY(9)", "BYTES", "DATE", "TIME", "TIME(3)", "TIME(3) WITHOUT TIME ZONE", "TIMESTAMP",
        "TIMESTAMP(3)", "TIMESTAMP(9) WITHOUT TIME ZONE", "TIMESTAMP_LTZ", "TIMESTAMP_LTZ(3)",
        "TIMESTAMP(3) WITH LOCAL TIME ZONE", "TIMESTAMP WITH LOCAL TIME ZONE", "ARRAY<INT NOT NULL>", "MULTISET<STRING>",
        "MAP<STRING, ARRAY<ROW<a INT, b DECIMAL(20, 4)>>>", "ROW<a INT, b ROW<c STRING>>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("nullability", ["", " NOT NULL", " NULL"])
def test_every_type_is_read_as_the_schema_file_reads_it(type_text: str, nullability: str):
    statement = parse_statement(f"CREATE TABLE t (c {type_text.lower()}{nullability} COMMENT 'x', d INT)")
    assert isinstance(statement, CreateTable)
    assert statement.columns[0].type == parse_type(type_text).with_nullable(nullability != " NOT NULL")
    assert len(statement.columns) == 2


def test_rows_may_have_parentheses_and_arrays_a_suffix():
    statement = parse_statement("CREATE TABLE t (a ROW(x INT 'one', y STRING), b INT ARRAY NOT NULL)")
    assert isinstance(statement, CreateTable)
    assert str(statement.columns[0].type) == "ROW<`x` INT, `y` STRING>"
    assert str(statement.columns[1].type) == "ARRAY<INT> NOT NULL"


def test_a_primary_key_may_stand_with_its_column():
    statement = parse_statement("CREATE TABLE t (id INT PRIMARY KEY NOT ENFORCED, v INT)")
    assert isinstance(statement, CreateTable)
    assert statement.primary_keys == ("id",)


@pytest.mark.parametrize(
    ("text", "statement"),
    [
        ("CREATE DATABASE a", CreateDatabase(name="a")),
        ("create database if not exists `a b`", CreateDatabase(name="a b", if_not_exists=True)),
        ("DROP DATABASE a RESTRICT", DropDatabase(name="a")),
        ("DROP DATABASE IF EXISTS a CASCADE", DropDatabase(name="a", if_exists=True, cascade=True)),
        ("USE a", UseDatabase(name="a")),
        ("SHOW DATABASES", ShowDatabases()),
        ("SHOW TABLES", ShowTables()),
        ("SHOW TABLES IN a LIKE '%b'", ShowTables(database="a", like="%b")),
        ("SHOW CREATE TABLE a.b", ShowCreateTable(name="a.b")),
        ("SHOW PARTITIONS t PARTITION (d = '1', e = 2)", ShowPartitions(name="t", partition={"d": "1", "e": 2})),
        ("DESC a.b", DescribeTable(name="a.b")),
        ("DESCRIBE `a`", DescribeTable(name="a")),
        ("DROP TABLE IF EXISTS a.b", DropTable(name="a.b", if_exists=True)),
        ("DROP VIEW v", DropView(name="v")),
        ("DROP TEMPORARY VIEW IF EXISTS v", DropView(name="v", if_exists=True)),
        ("ALTER TABLE a RENAME TO b", RenameTable(name="a", new_name="b")),
        (
            "CREATE TEMPORARY VIEW IF NOT EXISTS v (a, b) COMMENT 'c' AS WITH x AS (SELECT 1) SELECT * FROM x",
            CreateView(
                name="v",
                query=Query(text="WITH x AS (SELECT 1) SELECT * FROM x", column=61),
                columns=("a", "b"),
                if_not_exists=True,
                comment="c",
            ),
        ),
        (
            "INSERT OVERWRITE db.t PARTITION (d = '2024-01-01') (a, b) VALUES (1, 'x')",
            Insert(
                name="db.t",
                query=Query(text="VALUES (1, 'x')", column=59),
                columns=("a", "b"),
                partition={"d": "2024-01-01"},
                overwrite=True,
            ),
        ),
        (
            "INSERT INTO t (SELECT 1)",
            Insert(name="t", query=Query(text="(SELECT 1)", column=15)),
        ),
        ("EXPLAIN PLAN FOR SELECT 1", Explain(query=Query(text="SELECT 1", column=18))),
        ("DELETE FROM t WHERE a = 1 AND b > '2'", Delete(name="t", condition="a = 1 AND b > '2'", column=21)),
        ("CALL sys.compact('a.b')", Call(procedure="compact", arguments=(Argument(value="a.b"),))),
        ("CALL sys.x()", Call(procedure="x")),
        (
            "CALL `sys`.expire_snapshots(`table` => 'a.b', retain_max => -2, x => 1.5, y => TRUE, z => null, d => DATE '2024')",
            Call(
                procedure="expire_snapshots",
                arguments=(
                    Argument(name="table", value="a.b"),
                    Argument(name="retain_max", value=-2),
                    Argument(name="x", value=Decimal("1.5")),
                    Argument(name="y", value=True),
                    Argument(name="z", value=None),
                    Argument(name="d", value="2024"),
                ),
            ),
        ),
    ],
)  # fmt: skip
def test_statement(text: str, statement: object):
    assert parse_statement(text) == statement
    assert parse_statement(f"  {text} ;\n") == _moved(statement)


def _moved(statement: object) -> object:
    """The same two columns to the right."""
    if isinstance(statement, Delete):
        return replace(statement, column=statement.column + 2)
    query = getattr(statement, "query", None)
    return statement if query is None else replace(statement, query=replace(query, column=query.column + 2))  # type: ignore[type-var]


INT = parse_type("INT")
BIGINT = parse_type("BIGINT NOT NULL")


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        ("SET ('a' = 'b', 'c' = 'd')", (SetOption(key="a", value="b"), SetOption(key="c", value="d"))),
        ("RESET ('a', 'b')", (RemoveOption(key="a"), RemoveOption(key="b"))),
        ("ADD x INT", (AddColumn(path=("x",), type=INT),)),
        ("ADD COLUMN x INT FIRST", (AddColumn(path=("x",), type=INT, position=Position(where="first")),)),
        (
            "ADD (x INT COMMENT 'c' AFTER y, r.z INT BEFORE q)",
            (
                AddColumn(path=("x",), type=INT, comment="c", position=Position(where="after", reference="y")),
                AddColumn(path=("r", "z"), type=INT, position=Position(where="before", reference="q")),
            ),
        ),
        ("DROP x", (DropColumn(path=("x",)),)),
        ("DROP COLUMNS (x, r.y)", (DropColumn(path=("x",)), DropColumn(path=("r", "y")))),
        ("RENAME x TO y", (RenameColumn(path=("x",), new_name="y"),)),
        (
            "MODIFY x BIGINT NOT NULL COMMENT 'd' LAST",
            (
                UpdateColumnType(path=("x",), type=BIGINT),
                UpdateColumnComment(path=("x",), comment="d"),
                MoveColumn(name="x", position=Position(where="last")),
            ),
        ),
    ],
)
def test_alter_table(action: str, changes: tuple[object, ...]):
    assert parse_statement(f"ALTER TABLE a.b {action}") == AlterTable(name="a.b", changes=changes)  # type: ignore[arg-type]


def test_alter_table_drops_partitions():
    assert parse_statement("ALTER TABLE t DROP PARTITION (d = '1'), PARTITION (d = '2')") == DropPartitions(
        name="t", partitions=({"d": "1"}, {"d": "2"})
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FOO BAR", "line 1, column 1: expected a statement (CREATE, DROP"),
        ("CREATE INDEX i", "column 8: expected TABLE, DATABASE or VIEW, found 'INDEX'"),
        ("CREATE TABLE t", "column 15: expected '(', found the end of the statement"),
        ("CREATE TABLE t ()", "column 17: expected the name of a column, found ')'"),
        ("CREATE TABLE t (a)", "column 18: expected a type"),
        ("CREATE TABLE t (a INT b INT)", "expected ',' or ')', found 'b'"),
        ("CREATE TABLE t (a INTT)", "column 19: not a Paimon type: 'INTT'"),
        ("CREATE TABLE t (\n a DECIMAL(39, 1))", "line 2, column 4: type 'DECIMAL(39, 1)'"),
        ("CREATE TABLE t (a DECIMAL('x'))", "expected the length, precision or scale, a whole number"),
        ("CREATE TABLE t (a ARRAY<INT)", "expected '>', found ')'"),
        ("CREATE TABLE t (a ROW<>)", "at least one field"),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a))", "NOT ENFORCED after the primary key"),
        ("CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, PRIMARY KEY (a) NOT ENFORCED)", "a second primary key"),
        ("CREATE TABLE t (a AS b + 1)", "column 17: column 'a': computed"),
        ("CREATE TABLE t (a INT METADATA)", "column 17: column 'a': computed"),
        ("CREATE TABLE t (a TIMESTAMP(3), WATERMARK FOR a AS a)", "column 33: a watermark belongs to a query"),
        ("CREATE TABLE t (a INT) WITH (k = 'v')", "expected an option's key in single quotes, found 'k'"),
        ("CREATE TABLE t (a INT) WITH ('k' = 'v', 'k' = 'w')", "option 'k' is given twice"),
        ("CREATE TABLE t (a INT) WITH ('k' = 1)", "expected an option's value in single quotes, found '1'"),
        ("CREATE TABLE a.b.c (a INT)", "expected the name of a table as table or database.table"),
        ("CREATE TABLE t (a INT) LIKE u", "column 24: expected the end of the statement, found 'LIKE'"),
        ("CREATE DATABASE a WITH ('x'='y')", "no options of databases"),
        ("ALTER DATABASE a SET ('x'='y')", "no properties of databases"),
        ("CALL compact('t')", "expected a procedure of the database 'sys'"),
        ("CALL sys.compact(x => 1, 2)", "a named argument"),
        ("CALL sys.compact(a)", "expected a value"),
        ("INSERT INTO t FOO", "expected a query: SELECT, WITH or VALUES, found 'FOO'"),
        ("DELETE FROM t", "expected WHERE"),
        ("DELETE FROM t WHERE", "expected a condition"),
        ("SHOW COLUMNS", "expected DATABASES, TABLES, CREATE or PARTITIONS"),
        ("USE a b", "column 7: expected the end of the statement, found 'b'"),
        ("DROP TABLE ``", "expected the name of a table"),
        ("ALTER TABLE t FLY", "expected SET, RESET, ADD, DROP, MODIFY, RENAME, ALTER or UNSET"),
    ],
)
def test_errors_say_where_what_was_expected_and_what_was_found(text: str, message: str):
    with pytest.raises(SqlError) as error:
        parse_statement(text)
    assert message in str(error.value)
    assert str(error.value).startswith("line ")


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a " + "ARRAY<" * 500 + "INT" + ">" * 500 + ")",
        "CREATE TABLE t (a " + "ROW<a " * 5000 + "INT" + ">" * 5000 + ")",
        "CREATE TABLE t (a " + "ROW(a " * 100 + "INT" + ")" * 100 + ")",
        "SELECT " + "(" * 100 + "1" + ")" * 100,
        "INSERT INTO t " + "(" * 10_000 + "SELECT 1" + ")" * 10_000,
    ],
)
def test_deep_nesting_is_a_sql_error(text: str):
    with pytest.raises(SqlError, match="nested deeper"):
        parse_statement(text)


def test_one_statement_is_one():
    with pytest.raises(SqlError, match="expected one statement, found 2"):
        parse_statement("USE a; USE b")
    with pytest.raises(SqlError, match="expected one statement, found 0"):
        parse_statement("-- nothing")


_WORDS = """CREATE TABLE t ( ) a INT , ' `x` 'y' PRIMARY KEY NOT ENFORCED WITH = ; ALTER ADD DROP RENAME TO MODIFY SET CALL sys .
    compact => 1 -1 SELECT INSERT INTO OVERWRITE VALUES PARTITION PARTITIONED BY COMMENT ROW < > ARRAY MAP DECIMAL IF EXISTS"""


@settings(max_examples=examples(300))
@given(st.lists(st.sampled_from(_WORDS.split()), max_size=25).map(" ".join))
def test_any_words_give_statements_or_a_sql_error(text: str):
    with suppress(SqlError):
        assert isinstance(parse_statements(text), list)

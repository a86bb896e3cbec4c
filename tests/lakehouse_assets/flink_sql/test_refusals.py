"""What cannot be kept exact by changes alone is refused, with the reason, the file and the line."""

from __future__ import annotations

import pytest

from lakehouse_assets.flink_sql import NotIncremental, read_project
from storage_engine.errors import SqlError

TABLES = """
CREATE TABLE o (d STRING, id STRING, a STRING, p STRING, n BIGINT, t TIMESTAMP(3), pt AS PROCTIME(),
    PRIMARY KEY (d, id) NOT ENFORCED) PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE log (d STRING, a STRING, n BIGINT) WITH ('bucket' = '-1');
CREATE TABLE dim (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE newest (a STRING, n BIGINT, t TIMESTAMP(3), PRIMARY KEY (a) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE ordered (a STRING, n BIGINT, t TIMESTAMP(3), PRIMARY KEY (a) NOT ENFORCED)
    WITH ('bucket' = '1', 'sequence.field' = 't');
CREATE TABLE sums (a STRING, n BIGINT, top BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('bucket' = '1',
    'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'sum', 'fields.top.aggregate-function' = 'max');
CREATE TABLE copy (d STRING, id STRING, a STRING, PRIMARY KEY (d, id) NOT ENFORCED) WITH ('bucket' = '1');
"""
REFUSED = {
    "GROUP BY into newest": ("INSERT INTO newest (a, n)\nSELECT a, SUM(n) FROM o GROUP BY a", "keeps the newest row"),
    "max of what is updated": ("INSERT INTO sums SELECT a, SUM(n), MAX(n) FROM o GROUP BY a", "ignore-retract"),
    "average": ("INSERT INTO sums SELECT a, AVG(n), MAX(n) FROM log GROUP BY a", "keep SUM and COUNT"),
    "distinct count": ("INSERT INTO sums SELECT a, COUNT(DISTINCT d), MAX(n) FROM log GROUP BY a", "keyed by them"),
    "expression of sums": ("INSERT INTO sums SELECT a, SUM(n) / 2, MAX(n) FROM log GROUP BY a", "no single aggregate"),
    "having": ("INSERT INTO sums SELECT a, SUM(n), MAX(n) FROM log GROUP BY a\nHAVING SUM(n) > 1", "HAVING"),
    "event time join": (
        "INSERT INTO copy SELECT o.d, o.id, x.name FROM o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.t AS x ON o.p = x.id",
        "processing time",
    ),
    "window": (
        "INSERT INTO copy SELECT d, id, a FROM (SELECT *, SUM(n) OVER (PARTITION BY a) AS s FROM o)",
        "looks at other rows",
    ),
    "top-n": ("INSERT INTO copy SELECT d, id, a FROM o ORDER BY n LIMIT 10", "ORDER BY"),
    "limit": ("INSERT INTO copy SELECT d, id, a FROM o LIMIT 10", "LIMIT"),
    "distinct": ("INSERT INTO copy SELECT DISTINCT d, id, a FROM o", "primary key instead"),
    "union": ("INSERT INTO copy SELECT d, id, a FROM o UNION SELECT d, id, a FROM o", "write UNION ALL"),
    "inner query": ("INSERT INTO copy SELECT d, id, a FROM o WHERE p IN (SELECT id FROM dim)", "lookup join"),
    "scalar query": ("INSERT INTO copy SELECT d, id, (SELECT MAX(name) FROM dim) FROM o", "lookup join"),
    "grouped view": (
        "INSERT INTO newest (a, n) SELECT a, s FROM (SELECT a, SUM(n) AS s FROM log GROUP BY a)",
        "table of their own",
    ),
    "many rows of a key, no order": ("INSERT INTO newest SELECT a, n, t FROM o", "Set 'sequence.field'"),
    "newest by another order": (
        "INSERT INTO ordered SELECT a, n, t FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY n DESC) AS r FROM o)"
        " WHERE r = 1",
        "kept by the table itself",
    ),
    "a condition on the newest row": (
        "INSERT INTO newest SELECT a, n, t FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY t DESC) AS r FROM o)"
        " WHERE r = 1 AND n > 3",
        "n > 3 judges the newest row of a key",
    ),
    "a condition on the newest row, further out": (
        "CREATE VIEW last AS SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY t DESC) AS r FROM o)"
        " WHERE r = 1;\nINSERT INTO newest SELECT a, n, t FROM last WHERE n > 3",
        "n > 3 judges the newest row of a key",
    ),
    "an inner lookup of the newest row": (
        "INSERT INTO newest SELECT v.a, v.n, v.t FROM (SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY"
        " t DESC) AS r FROM o) WHERE r = 1) AS v JOIN dim FOR SYSTEM_TIME AS OF v.pt AS x ON v.p = x.id",
        "judges the newest row of a key",
    ),
    "sums of looked up values": (
        "INSERT INTO sums (a, n) SELECT x.name, SUM(o.n) FROM o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS x ON o.p = x.id"
        " GROUP BY x.name",
        "taken back",
    ),
    "sums of the present": ("INSERT INTO sums (a, n) SELECT DATE_FORMAT(NOW(), 'yyyy'), n FROM o", "present time"),
    "an unused view that groups": ("CREATE VIEW v AS SELECT a, SUM(n) FROM log GROUP BY a", "GROUP BY within FROM"),
    "a catalog": ("SELECT a FROM nope.default.log", "without a catalog"),
    "updates into a log": ("INSERT INTO log SELECT d, a, n FROM o", "no primary key"),
    "two streams": ("INSERT INTO copy SELECT d, id, a FROM o;\nINSERT INTO copy SELECT d, id, p FROM o", "as well"),
    "lookup by no key": (
        "INSERT INTO copy SELECT o.d, o.id, x.id FROM o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS x ON o.p = x.name",
        "primary key",
    ),
    "batch that adds again": (
        "SET 'execution.runtime-mode' = 'batch'; INSERT INTO sums SELECT a, SUM(n), MAX(n) FROM log GROUP BY a",
        "INSERT OVERWRITE",
    ),
}  # fmt: skip
WRONG = {
    "unknown table": ("INSERT INTO copy SELECT d, id, a\nFROM nowhere", "2", "no table or view default.nowhere"),
    "unknown column": ("INSERT INTO copy SELECT d, id,\n  nothing FROM o", "2", "no column nothing"),
    "unknown function": ("INSERT INTO copy SELECT d, id,\n SOUNDEX(a) FROM o", "2", "SOUNDEX"),
    "too few columns": ("INSERT INTO copy\nSELECT d, id FROM o", "1", "gives 2 columns"),
    "type": ("INSERT INTO copy SELECT d, id,\n n FROM o", "2", "CAST"),
    "no key": ("INSERT INTO copy (d, a) SELECT d, a FROM o", "1", "primary key"),
    "syntax": ("INSERT INTO copy SELECT d, id, a FRM o", "1", ""),
    "other connector": ("CREATE TABLE k (a STRING)\n WITH ('connector' = 'kafka')", "1", "connector"),
    "key not grouped": ("INSERT INTO sums SELECT d, SUM(n), MAX(n) FROM log\nGROUP BY a", "1", "not in GROUP BY"),
    "wrong function": ("INSERT INTO sums SELECT a, MAX(n), MAX(n) FROM log GROUP BY a", "1", "'sum'"),
    "column of no such number": (
        "INSERT INTO sums SELECT a, SUM(n), MAX(n) FROM log\nGROUP BY 4",
        "2",
        "lists columns 1 to 3",
    ),
    "column number zero": (
        "INSERT INTO sums SELECT a, SUM(n), MAX(n) FROM log\nGROUP BY 0",
        "2",
        "lists columns 1 to 3",
    ),
    "sum of nothing": ("INSERT INTO sums SELECT a,\n SUM(), MAX(n) FROM log GROUP BY a", "2", "takes 1 to 1 arguments"),
    "sum of two": ("INSERT INTO sums SELECT a,\n SUM(n, n), MAX(n) FROM log GROUP BY a", "2", "takes 1 to 1 arguments"),
    "digits that are not known": ("INSERT INTO newest (a, n) SELECT a,\n ROUND(n, NULL) FROM log", "2", "whole number"),
    "a width of the row": ("INSERT INTO newest (a, n) SELECT LPAD(a,\n n, 'x'), n FROM log", "1", "whole number"),
    "no unit of time": ("INSERT INTO copy SELECT d, id,\n TIMESTAMPADD(DAY, t) FROM o", "2", "two arguments"),
    "substring from nowhere": ("INSERT INTO copy SELECT d, id,\n SUBSTRING(a) FROM o", "2", "where to start"),
    "too large a number": ("INSERT INTO newest (a, n) SELECT a,\n 9223372036854775808 FROM log", "2", "BIGINT"),
    "too many digits": (f"INSERT INTO newest (a, n) SELECT a,\n 1.{'0' * 38} FROM log", "2", "38 digits"),
    "a view's columns": (
        "\nCREATE VIEW v (x, y) AS\nSELECT a FROM log;\nINSERT INTO newest (a) SELECT x FROM v",
        "3",
        "names 2 columns",
    ),
    "a setting": ("\nSET 'table.exec.sink.not-null-enforcer' = 'SOMETIMES'", "2", "known: 'ERROR', 'DROP'"),
    "a setting without quotes": ("\nSET execution.runtime-mode = batch", "2", "in single quotes"),
    "a mode": ("\nSET 'execution.runtime-mode' = 'bath'", "2", "known: 'STREAMING', 'BATCH'"),
    "another time zone": ("\nSET 'table.local-time-zone' = 'Asia/Shanghai'", "2", "would change what statements give"),
    "a setting much like another": (
        "SET 'execution.runtime-mod' = 'batch'",
        "1",
        "did you mean 'execution.runtime-mode'?",
    ),
    "statement": ("DROP TABLE o", "1", "DROP is run once"),
    "a table like another": ("\nCREATE TABLE x LIKE o", "2", "CREATE TABLE … LIKE: write its columns"),
    "a table as a query": ("\nCREATE TABLE x AS SELECT id FROM o", "2", "CREATE TABLE … AS SELECT: write"),
    "a column filled twice": (
        "\nINSERT INTO copy (d, id, id) SELECT d, id, a FROM o",
        "2",
        "column id is filled twice",
    ),
    "a fraction into whole numbers": ("INSERT INTO newest (a, n) SELECT a,\n n * 0.5 FROM log", "2", "CAST"),
    "a constant that is no time": ("SELECT a,\n TIMESTAMP '2024-13-01 00:00:00' FROM log", "2", "2024-13-01"),
    "another database's column": ("SELECT a,\n nope.log.n FROM log", "2", "no column nope.log.n"),
    "a table's own name behind an alias": ("SELECT l.a,\n default.log.n FROM log AS l", "2", "no column default.log.n"),
    "a table much like another": ("SELECT a FROM\n newst", "2", "did you mean default.newest?"),
    "an unused view's column": ("\nCREATE VIEW v AS SELECT a,\n nothing FROM log", "3", "no column nothing"),
    "an unused view's table": ("\nCREATE VIEW v AS SELECT a FROM\n nowhere", "3", "no table or view default.nowhere"),
    "an unused view's names": ("\nCREATE VIEW v (x, y) AS\nSELECT a FROM log", "3", "names 2 columns"),
    "a view of itself": ("\nCREATE VIEW v AS SELECT a FROM v", "2", "deeper than"),
    "a watermark of no column": (
        "\nCREATE TABLE x (id INT, at TIMESTAMP(3), WATERMARK FOR att AS att - INTERVAL '5' SECOND)",
        "2",
        "WATERMARK FOR att: there is no such column; did you mean at?",
    ),
    "a watermark of a text": ("\nCREATE TABLE x (id INT, at STRING, WATERMARK FOR at AS at)", "2", "and no TIMESTAMP"),
    "a watermark's expression": (
        "\nCREATE TABLE x (id INT, at TIMESTAMP(3), WATERMARK FOR at AS id)",
        "2",
        "id is Int32, and no TIMESTAMP",
    ),
    "two watermarks": (
        "\nCREATE TABLE x (id INT, at TIMESTAMP(3), WATERMARK FOR at AS at, WATERMARK FOR at AS at)",
        "2",
        "one WATERMARK",
    ),
    "an unused computed column": ("\nCREATE TABLE x (id INT, y AS id * nothing)", "2", "no column nothing"),
    "a computed column of a name that is taken": (
        "\nCREATE TABLE x (id INT, id AS 1)",
        "2",
        "column id is named twice",
    ),
    "computed twice": ("\nCREATE TABLE x (id INT, y AS 1, y AS 2)", "2", "column y is named twice"),
    "a hint that is none": ("SELECT\n /*+ FOO(o) */ a FROM log", "2", "hint FOO is not known"),
    "a hint that cannot be read": (
        "SELECT\n /*+ LOOKUP('table'='o' 'async'='true') */ a FROM log",
        "2",
        "with commas between",
    ),
    "a hint's option": (
        "SELECT\n /*+ LOOKUP('table'='o', 'retry-predicat'='x') */ a FROM log",
        "2",
        "did you mean retry-predicate",
    ),
    "a hint's predicate": (
        "SELECT\n /*+ LOOKUP('table'='o', 'retry-predicate'='found') */ a FROM log",
        "2",
        "known: 'lookup_miss'",
    ),
    "a hint of the target": (
        "INSERT INTO newest (a)\n /*+ LOOKUP('table'='o') */ SELECT a FROM log",
        "2",
        "before SELECT stands OPTIONS",
    ),
    "digits with a line": ("SELECT a,\n 1_000 FROM log", "2", "'1_000' is no number"),
    "half a number": ("SELECT a,\n 1e FROM log", "2", "'1e' is no number"),
    "a hexadecimal number": ("SELECT a,\n 0x1F FROM log", "2", "'0x1F' is no number"),
    "a string of letters' numbers": ("SELECT a,\n U&'\\00e4' FROM log", "2", "write a plain string"),
    "a string of bytes": ("SELECT a,\n X'4D' FROM log", "2", "4D"),
    "a string without end": ("SELECT a,\n 'it''s; -- FROM log;\nSELECT 1", "2", "a string is not closed"),
    "a comment without end": ("SELECT a /* ; ' \n /* FROM log;\nSELECT 1", "1", "a comment is not closed"),
    "a name without end": ("SELECT a,\n `n`` FROM log", "2", "add a backtick"),
    "a misspelt option": (
        "\nCREATE TABLE x (id INT) WITH ('merge-engin' = 'first-row')",
        "2",
        "did you mean 'merge-engine'?",
    ),
    "a misspelt option of a column": (
        "\nCREATE TABLE x (id INT, n INT) WITH ('fields.n.aggregate-functon' = 'sum')",
        "2",
        "did you mean 'fields.n.aggregate-function'?",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_reason_and_place(case: str) -> None:
    statement, reason = REFUSED[case]
    with pytest.raises(NotIncremental, match=r"app\.sql, line \d+") as refused:
        read_project({"ddl.sql": TABLES, "app.sql": statement}, name="p")
    assert reason in str(refused.value)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_by_line(case: str) -> None:
    statement, line, reason = WRONG[case]
    with pytest.raises(SqlError, match=rf"app\.sql, line {line}\b") as wrong:
        read_project({"ddl.sql": TABLES, "app.sql": statement}, name="p")
    assert reason in str(wrong.value)
    assert not isinstance(wrong.value, NotIncremental)


UNDERSTOOD = {
    "what only looks like an end": (
        "SELECT a, ';--/*' AS `x;``--` FROM log -- ; '\n WHERE a <> 'it''s' /* ; ' \" ` */ OR a = '/*+ FOO(x) */'; -- /*"
    ),
    "hints that tell how, not what": (
        "SELECT /*+ BROADCAST(log), STATE_TTL('log' = '1d'), SHUFFLE_HASH(log) OPTIONS('scan.parallelism' = '2') */ a FROM log"
    ),
    "how Flink waits for a lookup": (
        "SELECT /*+ LOOKUP('table' = 'x', 'retry-predicate' = 'lookup_miss', 'async' = 'true', 'output-mode' = 'ordered',"
        " 'retry-strategy' = 'fixed_delay', 'fixed-delay' = '1s', 'max-attempts' = '3') */ o.a"
        " FROM o LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS x ON o.p = x.id"
    ),
    "options of the table that is filled": (
        "INSERT INTO newest /*+ OPTIONS('sink.parallelism' = '2') */ (a, n) SELECT a, n FROM log"
    ),
    "names with their database": ("SELECT default.log.a, log.n FROM default.log"),
    "watermarks": (
        "CREATE TABLE x (id INT, at TIMESTAMP(3), ms BIGINT, WATERMARK FOR at AS at - INTERVAL '5' SECOND);"
        " CREATE TABLE y (id INT, s STRING, at AS TO_TIMESTAMP(s), WATERMARK FOR `at` AS `at`, PRIMARY KEY (id) NOT ENFORCED)"
    ),
    "settings of Flink": (
        "SET 'table.local-time-zone' = 'UTC'; SET 'execution.checkpointing.interval' = '10 s'; SET; RESET 'pipeline.name';"
        " SET 'table.exec.sink.upsert-materialize' = 'NONE'; SET 'execution.runtime-mode' = 'STREAMING'"
    ),
    "options of other engines": (
        "CREATE TABLE x (id INT) WITH ('scan.parallelism' = '2', 'sink.parallelism' = '2', 'partition.timestamp-format.strict' ="
        " 'true', 'snapshot.expire.clean-empty-directories' = 'true', 'my.own' = 'x', 'fields.id.default-value' = '1')"
    ),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_near_to_it_is_understood(case: str) -> None:
    read_project({"ddl.sql": TABLES, "app.sql": UNDERSTOOD[case]}, name="p")

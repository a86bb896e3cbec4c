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
    "a setting": ("\nSET 'table.exec.sink.not-null-enforcer' = 'SOMETIMES'", "2", "'ERROR' or 'DROP'"),
    "statement": ("DROP TABLE o", "1", "nothing that a project declares"),
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

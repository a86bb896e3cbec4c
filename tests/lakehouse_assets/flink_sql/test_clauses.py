"""Nothing of a query is parsed and then ignored: a clause is what DuckDB takes it for, or it is refused with its line."""

from __future__ import annotations

import random
import re

import pytest

from lakehouse_assets.flink_sql import NotIncremental, read_project
from lakehouse_assets.flink_sql.clauses import READ
from lakehouse_assets.flink_sql.expressions import COMPUTED
from storage_engine import Catalog
from storage_engine.errors import SqlError
from tests.lakehouse_assets.flink_sql.any_order import move
from tests.lakehouse_assets.flink_sql.test_shared_targets import change
from tests.lakehouse_assets.flink_sql.test_unions import held, project, truth, warehouse

TABLES = """
CREATE TABLE o (d STRING, id STRING, a STRING, p STRING, n BIGINT, f DOUBLE, t TIMESTAMP(3), r ROW<x BIGINT, s ROW<y BIGINT>>,
    a_row ROW<x BIGINT>, pt AS PROCTIME(), PRIMARY KEY (d, id) NOT ENFORCED) PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE log (a STRING, n BIGINT, t TIMESTAMP(3)) WITH ('bucket' = '-1');
CREATE TABLE dim (id STRING, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE sums (a STRING, n BIGINT, PRIMARY KEY (a) NOT ENFORCED)
    WITH ('bucket' = '1', 'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'sum');
CREATE TABLE texts (a STRING, n STRING, PRIMARY KEY (a) NOT ENFORCED) WITH ('bucket' = '1',
    'merge-engine' = 'aggregation', 'fields.n.aggregate-function' = 'listagg', 'fields.n.list-agg-delimiter' = ';');
CREATE TABLE copy (d STRING, id STRING, a STRING, PRIMARY KEY (d, id) NOT ENFORCED) PARTITIONED BY (d) WITH ('bucket' = '1');
CREATE TABLE numbers (d STRING, id STRING, v BIGINT, PRIMARY KEY (d, id) NOT ENFORCED) WITH ('bucket' = '1');
CREATE TABLE newest (a STRING, n BIGINT, t TIMESTAMP(3), PRIMARY KEY (a) NOT ENFORCED)
    WITH ('bucket' = '1', 'sequence.field' = 't');
"""
BEHIND_FROM = {
    "TABLESAMPLE (10 PERCENT)": "TABLESAMPLE",
    "TABLESAMPLE BERNOULLI (10) REPEATABLE (1)": "TABLESAMPLE",
    "AS q TABLESAMPLE SYSTEM (10)": "TABLESAMPLE",
    "AS q (x, y)": "column names behind the alias",
    "q (d, a, id)": "column names behind the alias",
    "PIVOT (SUM(n) FOR a IN ('x', 'y'))": "PIVOT",
    "UNPIVOT (v FOR k IN (n, f))": "PIVOT",
    "WITH (NOLOCK)": "WITH (NOLOCK)",
    "SORT BY d": "SORT BY",
    "CLUSTER BY d": "CLUSTER BY",
    "DISTRIBUTE BY d": "DISTRIBUTE BY",
    "FOR UPDATE": "FOR UPDATE",
    "FOR SHARE NOWAIT": "FOR UPDATE and FOR SHARE",
    "ORDER BY d NULLS FIRST": "ORDER BY",
    "LIMIT 5": "LIMIT",
    "FETCH FIRST 5 ROWS WITH TIES": "LIMIT",
    "OFFSET 5 ROWS": "OFFSET",
    "QUALIFY n = 1": "QUALIFY",
    "WINDOW w AS (PARTITION BY a)": "WINDOW",
    "HAVING n > 1": "HAVING",
    "LATERAL VIEW EXPLODE(a) x AS y": "LATERAL",
    "CROSS JOIN UNNEST(r) AS u (v)": "cannot be read as a stream",
    "CONNECT BY id = a": "CONNECT BY",
    "CROSS JOIN dim": "CROSS JOIN",
    ", dim": "a join needs ON",
    "JOIN dim USING (id)": "a join needs ON",
    "NATURAL JOIN dim AS x ON o.id = x.id": "NATURAL",
    "NATURAL LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS x ON o.p = x.id": "NATURAL",
    "ASOF JOIN dim ON o.p = dim.id": "ASOF",
    "LEFT SEMI JOIN dim ON o.p = dim.id": "SEMI JOIN",
    "LEFT ANTI JOIN dim ON o.p = dim.id": "ANTI JOIN",
    "LEFT JOIN dim AS x (i, name) ON o.p = x.i": "column names behind the alias",
    "LEFT JOIN dim FOR SYSTEM_TIME AS OF o.pt AS x (i, name) ON o.p = x.i": "column names behind the alias",
    "LEFT JOIN dim FOR VERSION AS OF o.pt AS x ON o.p = x.id": "FOR SYSTEM_TIME AS OF takes",
    "LEFT JOIN dim TABLESAMPLE (5 PERCENT) ON o.p = dim.id": "TABLESAMPLE",
    "LEFT JOIN dim JOIN dim AS e ON dim.id = e.id ON o.p = dim.id": "JOIN dim AS e",
    "WHERE n BETWEEN SYMMETRIC 5 AND 1": "BETWEEN SYMMETRIC",
    "UNION ALL BY NAME SELECT id, d, a FROM o": "UNION",
    "UNION ALL CORRESPONDING SELECT id, d, a FROM o": "KIND",
    "UNION ALL (SELECT d, id, a FROM o LIMIT 1)": "LIMIT",
    "EXCEPT ALL SELECT d, id, a FROM o": "EXCEPT",
}
"""Behind ``FROM o``: what stands on the third line → what it is refused for."""
ELSEWHERE = {
    "SELECT d, id, a INTO x FROM o": "INTO",
    "SELECT AS STRUCT d, id, a FROM o": "STRUCT",
    "SELECT DISTINCT ON (d) d, id, a FROM o": "DISTINCT",
    "SELECT * REPLACE (d AS a) FROM (SELECT d, id, a FROM o)": "REPLACE",
    "SELECT * RENAME (a AS b) FROM (SELECT d, id, a FROM o)": "RENAME",
    "SELECT x.* EXCEPT (p) FROM (SELECT d, id, a FROM o) AS x": "EXCEPT",
    "SELECT d, id, a FROM (SELECT d, id, a FROM o) AS x (a, id, d)": "column names behind the alias",
    "SELECT d, id, a FROM (SELECT d, id, a FROM o) TABLESAMPLE (5 PERCENT)": "TABLESAMPLE",
    "SELECT d, id, a FROM (SELECT d, id, a FROM o) AS x PIVOT (SUM(n) FOR a IN ('x'))": "PIVOT",
    "(SELECT d, id, a FROM o) LIMIT 5": "LIMIT",
    "(SELECT d, id, a FROM o) ORDER BY d": "ORDER BY",
    "SELECT d, id, a FROM ((SELECT d, id, a FROM o) LIMIT 5)": "LIMIT",
    "SELECT d, id, a FROM o FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'": "as it was at a moment",
    "SELECT d, id, a FROM o FOR VERSION AS OF 3": "as it was at a moment",
    "SELECT d, id, a FROM o AT (TIMESTAMP => '2024-01-01')": "as it was at a moment",
    "SELECT d, id, a FROM o WITH ORDINALITY": "ORDINALITY",
    "SELECT d, id, a FROM other.default.o": "too many parts",
    "SELECT d, id, lake.default.o.a FROM o": "too many parts",
    "SELECT d, id, a FROM (WITH o AS (SELECT id AS d, id, a FROM o) SELECT d, id, a FROM o)": "WITH",
    "SELECT d, id, CAST(n AS STRING FORMAT '99') FROM o": "99",
    "SELECT d, id, CAST(FLOOR(f, 2) AS STRING) FROM o": "2",
    "SELECT d, id, CAST(CEIL(f, 2) AS STRING) FROM o": "2",
    "SELECT d, id, CAST(POSITION('x', a, 3) AS STRING) FROM o": "3",
}  # fmt: skip
OF_GROUPS = {
    "SUM(n) FROM log GROUP BY ROLLUP (a)": "ROLLUP",
    "SUM(n) FROM log GROUP BY CUBE (a)": "CUBE",
    "SUM(n) FROM log GROUP BY GROUPING SETS ((a), ())": "GROUPING SETS",
    "SUM(n) FROM log GROUP BY a WITH TOTALS": "TOTALS",
    "SUM(DISTINCT n) FROM log GROUP BY a": "DISTINCT",
    "SUM(n) WITHIN GROUP (ORDER BY n) FROM log GROUP BY a": "WITHIN GROUP",
    "LAST_VALUE(n) IGNORE NULLS FROM log GROUP BY a": "IGNORE NULLS",
    "COUNT(* EXCEPT (n)) FROM log GROUP BY a": "EXCEPT",
}
NUMBERED = {
    "ROW_NUMBER() OVER (PARTITION BY a ORDER BY t DESC NULLS FIRST)": "NULL comes last",
    "ROW_NUMBER() OVER (PARTITION BY a ORDER BY t DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)": "ROWS",
    "ROW_NUMBER() OVER (w PARTITION BY a ORDER BY t DESC)": "ALIAS",
    "ROW_NUMBER(3) OVER (PARTITION BY a ORDER BY t DESC)": "takes nothing",
}
ASKED = {
    **{f"INSERT INTO copy\nSELECT d, id, a FROM o\n{clause}": reason for clause, reason in BEHIND_FROM.items()},
    **{f"INSERT INTO copy\n\n{query}": reason for query, reason in ELSEWHERE.items()},
    **{f"INSERT INTO sums\n\nSELECT a, {query}": reason for query, reason in OF_GROUPS.items()},
    **{
        f"INSERT INTO newest SELECT a, n, t FROM (\nSELECT *,\n{number} AS r FROM log) WHERE r = 1": reason
        for number, reason in NUMBERED.items()
    },
}
NOT_PARSED = (
    "INSERT INTO copy\n\nSELECT TOP 5 d, id, a FROM o",
    "INSERT INTO copy\n\nSELECT d, id, a FROM ONLY o",
    "INSERT INTO copy SELECT d, id, a\nFROM o\nMATCH_RECOGNIZE (PARTITION BY a ORDER BY t PATTERN (A+) DEFINE A AS A.n > 1)",
    "INSERT INTO copy SELECT d, id, a\nFROM o\nON CONFLICT DO NOTHING",
    "INSERT INTO copy SELECT d, id, a\nFROM o\nRETURNING *",
    "\n\nINSERT INTO copy BY NAME SELECT d, id, a FROM o",
    "\n\nINSERT OR REPLACE INTO copy SELECT d, id, a FROM o",
    "\n\nINSERT OVERWRITE TABLE copy IF NOT EXISTS SELECT d, id, a FROM o",
    "INSERT INTO copy\n\nVALUES ('d', 'id', 'a')",
    "INSERT INTO copy SELECT d, id,\n\nUPPER(a) COLLATE x FROM o",
    "INSERT INTO numbers SELECT d, id,\n\nNOW(5) FROM o",
    "INSERT INTO copy SELECT d, id,\n\nCAST(CURRENT_TIMESTAMP(0) AS STRING) FROM o",
    "INSERT INTO numbers SELECT d, id,\n\nr.a_row.x FROM o",
    "INSERT INTO numbers SELECT d, id,\n\nz.r.x FROM o",
    "INSERT INTO texts\n\nSELECT a, LISTAGG(a, ',') FROM log GROUP BY a",
    "INSERT INTO copy\n\nSELECT /*+ LOOKUP('tabel'='x') */ d, id, a FROM o",
    *(
        f"\n\nCREATE {statement}"
        for statement in (
            "OR REPLACE TABLE z (a INT)",
            "TABLE z AS SELECT d FROM o",
            "TABLE z LIKE o",
            "TABLE z (a INT) LIKE o",
            "TABLE z (a INT CHECK (a > 1))",
            "TABLE z (a INT DEFAULT 5)",
            "TABLE z (a INT UNIQUE)",
            "TABLE z (a INT REFERENCES o (d))",
            "TABLE z (a INT, CHECK (a > 1))",
            "TABLE z (a INT, CONSTRAINT c UNIQUE (a))",
            "TABLE z (a INT GENERATED ALWAYS AS (1) STORED)",
            "TABLE z (a INT PRIMARY KEY)",
            "TABLE z (a INT METADATA FROM 'x' VIRTUAL)",
            "TABLE z (a INT) DISTRIBUTED BY (a) INTO 4 BUCKETS",
            "MATERIALIZED VIEW z AS SELECT d FROM o",
        )
    ),
)
UNDERSTOOD = {
    "all": "SELECT ALL 'a', d, id, n FROM db.a WHERE NOT n BETWEEN 2 AND 4",
    "truth": "SELECT 'a', a.d, a.id, a.n FROM db.a AS a WHERE (n > 3) IS NOT TRUE AND k NOT IN ('1', '2')",
    "parentheses": "SELECT x.kind, d, id, (n) FROM (((SELECT 'a' AS kind, * FROM db.a))) AS x WHERE ((n > 2) OR (id = 1))",
    "null": "SELECT 'a', d, id, CASE n WHEN 1 THEN NULL ELSE n END AS n FROM db.a WHERE n IS DISTINCT FROM 3",
}  # fmt: skip


def read(statements: str) -> None:
    read_project({"ddl.sql": TABLES, "app.sql": statements}, name="p")


@pytest.mark.parametrize("statement", ASKED)
def test_a_clause_that_is_not_read_is_refused_with_its_line(statement: str) -> None:
    with pytest.raises(NotIncremental) as refused:
        read(statement)
    line = 2 if "EXCEPT ALL" in statement or "UNION ALL BY" in statement or "CORRESPONDING" in statement else 3
    assert re.match(rf"app\.sql, line {line}, column \d+: ", str(refused.value))
    assert ASKED[statement] in str(refused.value)


@pytest.mark.parametrize("statement", NOT_PARSED)
def test_what_is_no_clause_here_is_an_error_with_its_line(statement: str) -> None:
    with pytest.raises(SqlError, match=r"app\.sql, line 3, column \d+: "):
        read(statement)


@pytest.mark.parametrize(
    "around", ["SET 'execution.runtime-mode' = 'batch';\nINSERT INTO", "\nINSERT OVERWRITE", "CREATE VIEW"]
)
@pytest.mark.parametrize("clause", ["TABLESAMPLE (10 PERCENT)", "AS q (x, y)", "FOR UPDATE", "SORT BY d"])
def test_batch_statements_and_views_are_read_as_strictly(around: str, clause: str) -> None:
    head, tail = ("\nCREATE VIEW v AS", ";\nSELECT * FROM v") if "VIEW" in around else (f"{around} copy", "")
    with pytest.raises(NotIncremental, match=r"app\.sql, line 3, "):
        read(f"{head} SELECT d, id, a FROM o\n{clause}{tail}")


@pytest.mark.parametrize(
    "computed", ["n DISTINCT", "n LIMIT 1", "n FROM dim WHERE name = 'x'", "n STORED", "(SELECT 1)"]
)
def test_a_computed_column_is_an_expression_alone(computed: str) -> None:
    with pytest.raises(SqlError, match=r"app\.sql, line 1, "):
        read(
            f"CREATE TABLE z (id STRING, n BIGINT, m AS {computed}, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1');"
            "INSERT INTO numbers SELECT id, id, m FROM z"
        )


@pytest.mark.parametrize(
    "option",
    ["'scan.snapshot-id'='3'", "'incremental-between'='1,3'", "'scan.mode'='latest'", "'scan.timestamp-millis'='1'"],
)
def test_a_hint_that_would_read_other_rows_is_refused(option: str) -> None:
    with pytest.raises(NotIncremental, match=r"app\.sql, line 2, column \d+: hint OPTIONS"):
        read(f"INSERT INTO copy\nSELECT d, id, a FROM o /*+ OPTIONS({option}) */")
    read("INSERT INTO copy SELECT d, id, a FROM o /*+ OPTIONS('scan.parallelism'='4', 'scan.mode'='latest-full') */")


def test_names_of_rows_within_rows_are_read_whole() -> None:
    declared = read_project(
        {"ddl.sql": TABLES, "app.sql": "INSERT INTO numbers SELECT d, id, COALESCE(o.r.x, r.x) FROM o"}, name="p"
    )
    assert declared.streams[0].computed["v"] == ("r",)


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_is_understood_is_what_duckdb_gives(case: str) -> None:
    declared, chance = project(f"INSERT INTO db.told {UNDERSTOOD[case]}"), random.Random(3)
    catalog: Catalog = warehouse(declared)
    for clock in range(16):
        change(catalog, chance, clock)
        if clock % 5 == 0:
            move(catalog, declared, chance)
    move(catalog, declared, chance)
    assert held(catalog, "db.told") == truth(catalog, UNDERSTOOD[case]) != []


def test_every_kind_of_expression_says_what_is_read_of_it() -> None:
    assert COMPUTED.keys() <= READ.keys()
    wrong = {kind.__name__: names for kind, names in READ.items() if set(names.split()) - {*kind.arg_types, "negate"}}
    assert not wrong

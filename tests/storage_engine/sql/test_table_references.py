"""Which tables a query names, and how."""

from __future__ import annotations

import pytest

from storage_engine.errors import SqlError
from storage_engine.sql.statements import Query
from storage_engine.sql.table_references import MAX_OPERATORS, TableReference, find_table_references


def found(text: str) -> list[TableReference]:
    return find_table_references(Query(text=text))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SELECT 1", []),
        ("SELECT a FROM t", ["t"]),
        ("SELECT a FROM db.t WHERE x IN (1, 2) GROUP BY a, b ORDER BY a, b", ["db.t"]),
        ("SELECT t.a, `d b`.`t$files`.b FROM `d b`.`t$files`", ["d b.t$files"]),
        ("SELECT * FROM a, b x, c AS y WHERE a.i = x.i", ["a", "b", "c"]),
        ("SELECT * FROM a JOIN b ON a.i = b.i, c", ["a", "b", "c"]),
        ("SELECT * FROM a LEFT OUTER JOIN b USING (i, j) CROSS JOIN c", ["a", "b", "c"]),
        ("SELECT * FROM (a JOIN b ON a.i = b.i) JOIN (c) ON TRUE", ["a", "b", "c"]),
        ("SELECT * FROM (SELECT * FROM a) x JOIN ((SELECT * FROM b)) y ON x.i = y.i", ["a", "b"]),
        (
            "SELECT (SELECT MAX(x) FROM a), b FROM c WHERE EXISTS (SELECT 1 FROM d) OR e IN (SELECT f FROM g)",
            ["a", "c", "d", "g"],
        ),
        ("(SELECT a FROM t) UNION ALL (SELECT a FROM u) EXCEPT SELECT a FROM v", ["t", "u", "v"]),
        ("WITH x AS (SELECT * FROM a), y (p, q) AS (SELECT * FROM x, b) SELECT * FROM y JOIN x ON TRUE", ["a", "b"]),
        ("SELECT EXTRACT(YEAR FROM ts), SUBSTRING(a FROM b FOR c), TRIM(BOTH ' ' FROM d), f(g, h) FROM t", ["t"]),
        ("SELECT a IS DISTINCT FROM b, a IS NOT DISTINCT FROM c FROM t", ["t"]),
        ("SELECT * FROM (VALUES (1, 2), (3, 4)) AS v(a, b), t", ["t"]),
        ("VALUES (1, 'FROM t')", []),
        ("SELECT * FROM t CROSS JOIN UNNEST(t.l) AS u(x), LATERAL (SELECT * FROM w) z", ["t", "w"]),
        ("SELECT SUM(a) OVER (PARTITION BY b ORDER BY c) FROM t -- FROM x", ["t"]),
        ("SELECT 'FROM x' /* FROM y */ FROM `t`", ["t"]),
        ("SELECT CASE WHEN a THEN b END FROM t LIMIT 1", ["t"]),
    ],
)
def test_tables_are_found_in_order(text: str, names: list[str]):
    references = found(text)
    assert [reference.name for reference in references] == names
    for reference in references:
        assert reference.bare_name in text[reference.start : reference.end]


@pytest.mark.parametrize(
    ("clause", "version", "timestamp", "options"),
    [
        ("", None, None, {}),
        (" FOR VERSION AS OF 3", 3, None, {}),
        (" VERSION AS OF 'tag'", "tag", None, {}),
        (" FOR SYSTEM_TIME AS OF TIMESTAMP '2024-01-01 00:00:00'", None, "2024-01-01 00:00:00", {}),
        (" TIMESTAMP AS OF 1700000000000", None, 1700000000000, {}),
        (" FOR TIMESTAMP AS OF '2024-01-01'", None, "2024-01-01", {}),
        (" FOR SYSTEM_TIME AS OF o.proc_time", None, None, {}),
        (" FOR SYSTEM_TIME AS OF PROCTIME()", None, None, {}),
        (" /*+ OPTIONS('scan.snapshot-id' = '3', 'a'='b') */", None, None, {"scan.snapshot-id": "3", "a": "b"}),
        (" /*+ LOOKUP('table'='t') */", None, None, {}),
    ],
)
@pytest.mark.parametrize(("alias", "has_alias"), [("", False), (" AS x", True), (" x", True), (" `x`", True)])
def test_clauses_belong_to_the_reference_and_the_alias_does_not(clause, version, timestamp, options, alias, has_alias):
    text = f"SELECT * FROM o JOIN db.t{clause}{alias} ON o.i = 1"
    reference = found(text)[1]
    assert (reference.version, reference.timestamp, reference.options) == (version, timestamp, options)
    assert reference.has_alias is has_alias
    assert text[reference.start : reference.end] == f"db.t{clause}"


def test_a_hint_may_follow_the_alias():
    for alias in ("x", "AS x"):
        (reference,) = found(f"SELECT * FROM t {alias} /*+ OPTIONS('scan.tag-name'='v') */ WHERE a = 1")
        assert reference.options == {"scan.tag-name": "v"}
        assert reference.has_alias


def test_names_are_shadowed_by_those_of_the_query_alone():
    assert [r.name for r in found("WITH t AS (SELECT * FROM t2) SELECT * FROM t, db.t")] == ["t2", "db.t"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT * FROM a.b.c", "line 1, column 15: expected the name of a table"),
        ("SELECT *\nFROM t /*+ OPTIONS(a) */", "line 2, column 20: expected an option's key"),
        ("SELECT * FROM t FOR VERSION AS OF x", "expected a value"),
        ("SELECT " + "+".join("a" * (MAX_OPERATORS + 2)) + " FROM t", "more than 500 operators"),
        (" UNION ALL ".join(["SELECT a FROM t"] * 150), "more than 100 UNIONs"),
    ],
)
def test_what_cannot_be_understood_is_a_sql_error(text: str, message: str):
    with pytest.raises(SqlError) as error:
        found(text)
    assert message in str(error.value)


def test_positions_are_those_of_the_whole_script():
    with pytest.raises(SqlError, match="line 7, column 24"):
        find_table_references(Query(text="SELECT * FROM a.b.c", line=7, column=10))

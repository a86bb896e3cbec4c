"""Which clauses of a query are read; any other that stands in it is refused, so that nothing is parsed and then ignored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sqlglot import exp
from sqlglot.errors import ErrorLevel

from lakehouse_assets.flink_sql.errors import Place

_BINARY: Final[tuple[type[exp.Expr], ...]] = (
    exp.Add, exp.Sub, exp.Mul, exp.Mod, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.And, exp.Or, exp.NullSafeEQ,
    exp.NullSafeNEQ, exp.Escape, exp.Extract, exp.Filter,
)  # fmt: skip
_SET_OPERATIONS: Final[tuple[type[exp.Expr], ...]] = (exp.Union, exp.Except, exp.Intersect)
READ: Final[Mapping[type[exp.Expr], str]] = {
    exp.Select: "expressions from_ joins where group",
    exp.From: "this",
    exp.Table: "this db alias version",
    exp.TableAlias: "this",
    exp.Version: "this kind expression",
    exp.Subquery: "this alias",
    exp.Join: "this on side kind using",
    exp.Where: "this",
    exp.Group: "expressions",
    **dict.fromkeys(_SET_OPERATIONS, "this expression distinct by_name"),
    exp.Alias: "this alias",
    exp.Star: "",
    exp.Identifier: "this quoted",
    exp.Column: "this table db",
    exp.Literal: "this is_string",
    exp.Null: "",
    exp.Boolean: "this",
    exp.Paren: "this",
    exp.Not: "this",
    exp.Neg: "this",
    **dict.fromkeys(_BINARY, "this expression"),
    exp.Div: "this expression typed safe",
    exp.DPipe: "this expression safe",
    exp.Is: "this expression negate",
    exp.Like: "this expression negate",
    exp.Between: "this low high negate",
    exp.In: "this expressions query negate",
    exp.Case: "this ifs default",
    exp.If: "this true false",
    exp.Cast: "this to",
    exp.TryCast: "this to safe requires_string",
    exp.DataType: "this expressions nested",
    exp.DataTypeParam: "this expression",
    exp.Interval: "this unit",
    exp.Trim: "this expression position",
    exp.Substring: "this start length",
    exp.StrPosition: "this substr",
    exp.Floor: "this to",
    exp.Ceil: "this to",
    exp.CurrentTimestamp: "",
    exp.CurrentDate: "",
    exp.Anonymous: "this expressions",
    exp.Window: "this partition_by order over",
    exp.Order: "expressions",
    exp.Ordered: "this desc nulls_first",
}
"""What is read of each kind of node, names with blanks between. Kinds that are not here are refused where they stand."""
_NAMELESS: Final = (exp.Condition, exp.Identifier, exp.Alias)
"""Kinds of clauses whose own text does not say which clause they are."""
KEY_SETS: Final = "ROLLUP, CUBE and GROUPING SETS: write an INSERT for each set of keys"
MOMENT: Final = "a stream reads every change of a table, not the table as it was at a moment"
_REASONS: Final[Mapping[str, str]] = {
    "with": "WITH within a query: write it before the outermost SELECT, or the query as a view, or in FROM",
    "order": "ORDER BY: a table has no order; sort where you read it",
    "limit": "LIMIT: which rows are the first changes with every row; use merge engine aggregation or read with a LIMIT",
    "offset": "OFFSET: which rows are the first changes with every row",
    "distinct": "SELECT DISTINCT would have to remember all rows; give the target these columns as its primary key instead",
    "having": "HAVING: a group that comes to fulfil it, or no longer does, is not told by changes; filter where you read",
    "windows": "WINDOW: a window looks at other rows; use a primary key with 'sequence.field', or merge engine aggregation",
    "qualify": "QUALIFY: use a primary key with 'sequence.field'",
    "laterals": "LATERAL: table functions are not known here; write a Python stream",
    "match": "MATCH_RECOGNIZE is not known here; write a Python stream",
    "connect": "CONNECT BY is not known here",
    "sample": "TABLESAMPLE: which rows are in a sample is not told by changes; take the sample where you read",
    "into": "SELECT … INTO: a query fills the table of its INSERT INTO",
    "columns": "column names behind the alias of a table: name them in a SELECT list (FROM (SELECT a AS x FROM t) AS q), or in a"
    " view (CREATE VIEW v (x) AS …)",
    "pivots": "PIVOT and UNPIVOT: write CASE WHEN …, or a branch of UNION ALL for each column",
    "method": "NATURAL and ASOF JOIN: write JOIN … ON with the columns that are equal",
    "catalog": "a name of too many parts: a table is database.table, without a catalog, a column table.column"
    " or table.row.field",
    **dict.fromkeys(("rollup", "cube", "grouping_sets"), KEY_SETS),
    "when": MOMENT,
    "changes": MOMENT,
    "system_time": MOMENT,
    "symmetric": "BETWEEN SYMMETRIC: write BETWEEN with the smaller bound first",
    "spec": "ROWS and RANGE: a window looks at other rows, which changes alone do not tell; keep the newest row of a key with a"
    " primary key and 'sequence.field', running sums with merge engine aggregation",
    "locks": "FOR UPDATE and FOR SHARE: a stream locks no rows; leave it out",
}


def check_clauses(tree: exp.Expr, text: str, place: Place) -> None:
    """Raises NotIncremental for the first clause that is not read, with its place."""
    for node in tree.walk(bfs=False, prune=_is_refused):
        if not _is_refused(node):
            _check(node, text, place)


def _check(node: exp.Expr, text: str, place: Place) -> None:
    read = READ[type(node)].split()
    for name in {**node.arg_types, **node.args}:
        value = node.args.get(name)
        if name in read or not value:
            continue
        clause = value[0] if isinstance(value, list) else value
        word = name.rstrip("_")
        shown = _sql(clause) if isinstance(clause, exp.Expr) and not isinstance(clause, _NAMELESS) else ""
        reason = _REASONS.get(word) or (
            f"{shown or f'{word.upper()} in {_sql(node)}'} is not known here, and would change what the query gives: leave it"
            " out, or write a Python stream"
        )
        if not isinstance(clause, exp.Expr):
            raise place.refusal(reason, node)
        raise place.refusal(reason, _placed(clause, (shown or reason).partition(" ")[0], node, text))


def _is_refused(node: exp.Expr) -> bool:
    """Whether a node is refused as a whole where it is read: one of another kind, or a query within an expression."""
    around = (exp.From, exp.Join, exp.SetOperation, exp.Subquery)
    is_value = isinstance(node, exp.Query) and node.parent is not None and not isinstance(node.parent, around)
    return is_value or type(node) not in READ


def _placed(clause: exp.Expr, word: str, owner: exp.Expr, text: str) -> exp.Expr:
    """The node that tells where a clause stands: itself, by a name in it or by its first word, else what it belongs to."""
    if any(part.meta.get("line") for part in clause.walk()):
        return clause
    starts = [int(part.meta["start"]) for part in owner.walk() if part.meta.get("line")]
    found = re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE).search(text, min(starts, default=0))
    if found is None:
        return owner
    first, last = found.start(), found.end() - 1
    line = text.count("\n", 0, first) + 1
    clause.meta.update(line=line, col=last - text.rfind("\n", 0, first), start=first, end=last)
    return clause


def _sql(node: exp.Expr) -> str:
    return node.sql(unsupported_level=ErrorLevel.IGNORE)

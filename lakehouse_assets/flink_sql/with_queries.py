"""``WITH name AS (query)`` as the queries in FROM that its names stand for."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place


def inlined(tree: exp.Expr, place: Place) -> exp.Expr:
    """A query without its WITH. A name of WITH goes before a table's, and is known to the queries that follow it.

    Raises NotIncremental for WITH RECURSIVE and column names behind a name, SqlError for a name that comes twice or is not used.
    """
    clause = tree.args.get("with_")
    if not isinstance(clause, exp.With):
        return tree
    if clause.recursive:
        raise place.refusal("WITH RECURSIVE: what follows from a row cannot be told by its change alone", clause)
    queries: dict[str, exp.Expr] = {}
    used: set[str] = set()
    for each in clause.expressions:
        name = each.alias
        if each.args["alias"].args.get("columns"):
            raise place.refusal(f"WITH {name} (…): name the columns in the query (SELECT a AS x)", each)
        if name in queries:
            raise place.error(f"WITH names {name} twice", each)
        used |= _replaced(each.this, queries)
        queries[name] = each.this
    clause.pop()
    used |= _replaced(tree, queries)
    unused = [name for name in queries if name not in used]
    if unused:
        raise place.error(f"WITH {unused[0]}: nothing uses it", queries[unused[0]])
    return tree


def _replaced(tree: exp.Expr, queries: Mapping[str, exp.Expr]) -> set[str]:
    """Put queries where their names stand in a query; which they are."""
    found = [table for table in tree.find_all(exp.Table) if table.name in queries and not table.db]
    for table in found:
        alias = exp.TableAlias(this=exp.to_identifier(table.alias or table.name))
        table.replace(exp.Subquery(this=queries[table.name].copy(), alias=alias))
    return {table.name for table in found}

"""MERGE INTO: a source joined with a table, and what its clauses say, in one commit.

The rows of the source and their matches are looked up once; every clause is then a query over them, so that expressions
may be whatever a SELECT may hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import InvalidRows, SqlError
from storage_engine.kernel.conform import ROW_KIND, conform
from storage_engine.read.merge_read import FILE_PATH_COLUMN, ROW_INDEX_COLUMN
from storage_engine.rewrite.key_changes import check_deletable, check_updatable
from storage_engine.spec.schema import TableSchema
from storage_engine.sql.lexer import Source, Token, TokenKind, tokenize
from storage_engine.sql.modify import written
from storage_engine.sql.query import collected, query_frame, sql_errors
from storage_engine.sql.show import quoted
from storage_engine.sql.statements import Assignment, Expression, MatchKind, MergeAction, MergeClause, MergeInto, Query
from storage_engine.table import Table
from storage_engine.warehouse import Warehouse

_TARGET, _SOURCE = "__merge_target", "__merge_source"
_SOURCE_ROW, _ROW = "__source_row", "__row"
_KINDS = {MergeAction.UPDATE: "+U", MergeAction.DELETE: "-D", MergeAction.INSERT: "+I"}
_COUNTS = {MergeAction.INSERT: "inserted", MergeAction.UPDATE: "updated", MergeAction.DELETE: "deleted"}
_SQL_OF = {FILE_PATH_COLUMN: "VARCHAR", ROW_INDEX_COLUMN: "BIGINT"}
_MOST_LISTED_VALUES = 1000


def merge_into(warehouse: Warehouse, statement: MergeInto) -> pl.DataFrame:
    """Run a MERGE. Gives one row: ``snapshot_id`` (null if nothing changed), ``rows``, ``inserted``, ``updated``, ``deleted``.

    Of several clauses for one row, the first whose condition holds counts. Raises InvalidRows if one row of the table
    would be changed, or one key written, by several rows of the source; then nothing is written. Rows of a table without a
    primary key are known by the file that holds them.
    """
    table = warehouse.table(statement.name)
    schema = table.schema
    for clause in statement.clauses:
        _check_clause(clause, schema, table=table.name)
    merge = _Merge(warehouse, statement, table, schema)
    snapshot, rows = written(table, merge.rows)
    kinds = rows.get_column(ROW_KIND)
    counts = {name: [int((kinds == _KINDS[action]).sum())] for action, name in _COUNTS.items()}
    outcome = {"snapshot_id": [None if snapshot is None else snapshot.id], "rows": [rows.height], **counts}
    return pl.DataFrame(outcome, schema=dict.fromkeys(outcome, pl.Int64()))


def _check_clause(clause: MergeClause, schema: TableSchema, *, table: str) -> None:
    """Refuse what the table cannot do before anything is read."""
    unknown = [each.column for each in clause.assignments if each.column not in schema.by_name]
    if unknown:
        raise SqlError(
            f"line {clause.line}, column {clause.column}: table {table} has no column {unknown[0]!r};"
            f" columns: {', '.join(schema.column_names)}"
        )
    if clause.action is MergeAction.DELETE:
        check_deletable(schema, table=table)
    if clause.action is MergeAction.UPDATE:
        # That a column of the key keeps its value is checked with the rows.
        values = {name: pl.col(name) for name in schema.column_names if name not in schema.primary_keys}
        check_updatable(schema, values, table=table)


@dataclass(frozen=True, slots=True)
class _Merge:
    warehouse: Warehouse
    statement: MergeInto
    table: Table
    schema: TableSchema

    @property
    def ids(self) -> list[str]:
        """The columns that tell the rows of the table apart."""
        return list(self.schema.primary_keys) or [FILE_PATH_COLUMN, ROW_INDEX_COLUMN]

    def rows(self, snapshot: int | None) -> pl.DataFrame:
        """What changes, each row once: ``_row_kind``, the table's columns, and what else tells its rows apart."""
        changes = list(self._changes(snapshot))
        return _of_one_kind_each(changes, self.ids, self.schema, table=self.table.name)

    def _changes(self, snapshot: int | None) -> Iterator[pl.DataFrame]:
        source = collected(self.warehouse, self.statement.source).with_row_index(_SOURCE_ROW)
        target = self.table.scan(snapshot=snapshot, fallback=False, metadata_columns=self._beside)
        pairs = self._pairs(source, target).with_row_index(_ROW)
        left = {
            MatchKind.MATCHED: pairs,
            MatchKind.NOT_MATCHED: source.join(pairs, on=_SOURCE_ROW, how="anti").with_columns(
                pl.col(_SOURCE_ROW).alias(_ROW)
            ),
        }
        if any(clause.match is MatchKind.NOT_MATCHED_BY_SOURCE for clause in self.statement.clauses):
            rest = target.join(pairs.select(self.ids).lazy(), on=self.ids, how="anti").collect()
            left[MatchKind.NOT_MATCHED_BY_SOURCE] = rest.with_row_index(_ROW)
        for clause in self.statement.clauses:
            chosen = self._chosen(clause, left[clause.match], source)
            left[clause.match] = left[clause.match].join(chosen, on=_ROW, how="anti")
            kind = pl.lit(_KINDS[clause.action]).alias(ROW_KIND)
            given = chosen.drop(_ROW, *self._beside).with_columns([kind] if self.schema.primary_keys else [])
            conformed = conform(given, self.schema, table=self.table.name)
            yield conformed.select(kind, *self.schema.column_names).hstack(chosen.select(self._beside))

    @property
    def _beside(self) -> list[str]:
        return [name for name in self.ids if name not in self.schema.by_name]

    def _pairs(self, source: pl.DataFrame, rows: pl.LazyFrame) -> pl.DataFrame:
        """Rows of the table with the row of the source that matches them, one row for each pair."""
        target, alias = self._target_alias, self._source_alias
        joined = f"{_TARGET} AS {target} JOIN {_SOURCE} AS {alias} ON ({self.statement.condition.text})"
        text = f"SELECT {target}.*, {alias}.{_SOURCE_ROW} FROM {joined}"  # noqa: S608 - the statement is the user's own
        for name, other in self._equal_columns():
            rows = _narrowed(rows, name, source, other)
        return self._run(text, self.statement.condition, {_TARGET: rows, _SOURCE: source.lazy()})

    def _chosen(self, clause: MergeClause, rows: pl.DataFrame, source: pl.DataFrame) -> pl.DataFrame:
        """The rows that a clause is about, with their new values."""
        target, alias = self._target_alias, self._source_alias
        held = alias if clause.match is MatchKind.NOT_MATCHED else target
        values = ", ".join(self._values(clause))
        text = f"SELECT {held}.{_ROW} AS {_ROW}, {values} FROM {_TARGET} AS {held}"  # noqa: S608 - the same
        if clause.match is MatchKind.MATCHED:
            text += f" JOIN {_SOURCE} AS {alias} ON {target}.{_SOURCE_ROW} = {alias}.{_SOURCE_ROW}"
        if clause.condition is not None:
            text += f" WHERE ({clause.condition.text})"
        where = Expression(text="", line=clause.line, column=clause.column)
        chosen = self._run(text, where, {_TARGET: rows.lazy(), _SOURCE: source.lazy()})
        return self._with_own_keys(clause, chosen)

    def _values(self, clause: MergeClause) -> list[str]:
        given = {each.column: f"({each.value.text})" for each in clause.assignments or self._all(clause)}
        if clause.action is not MergeAction.INSERT:
            keys = self.schema.primary_keys
            moved = {_new(name): text for name, text in given.items() if name in keys}
            own = {name: f"{self._target_alias}.{quoted(name)}" for name in (*self.schema.column_names, *self._beside)}
            given = own | {name: text for name, text in given.items() if name not in keys} | moved
        else:
            given |= {name: f"CAST(NULL AS {_SQL_OF[name]})" for name in self._beside}
        return [f"{text} AS {quoted(name)}" for name, text in given.items()]

    def _all(self, clause: MergeClause) -> Sequence[Assignment]:
        """What ``*`` stands for; an update leaves the key alone."""
        if clause.action is MergeAction.DELETE:
            return ()
        keys = self.schema.primary_keys if clause.action is MergeAction.UPDATE else ()
        names = [name for name in self.schema.column_names if name not in keys]
        return [Assignment(column=n, value=Expression(text=f"{self._source_alias}.{quoted(n)}")) for n in names]

    def _with_own_keys(self, clause: MergeClause, chosen: pl.DataFrame) -> pl.DataFrame:
        """Refuses an update that sets a column of the key to something else."""
        for name in self.schema.primary_keys:
            if _new(name) in chosen.columns:
                changed = chosen.filter(pl.col(name).ne_missing(pl.col(_new(name)))).height
                if changed:
                    raise InvalidRows(
                        f"line {clause.line}, column {clause.column}: table {self.table.name}: column {name!r} is part of"
                        f" the primary key, and {changed} rows would get another value: delete them and insert new ones"
                    )
                chosen = chosen.drop(_new(name))
        return chosen

    def _equal_columns(self) -> list[tuple[str, str]]:
        """Columns of table and source that the condition sets equal, one by one, whatever else it asks."""
        tokens = tokenize(Source(self.statement.condition.text))[:-1]
        if any(token.is_word("OR", "NOT", "BETWEEN", "CASE", "SELECT") for token in tokens):
            return []
        found = []
        for part in _conjuncts(tokens):
            names = [token.value for token in part if token.kind in (TokenKind.WORD, TokenKind.QUOTED)]
            if "".join(token.value for token in part if token.kind is TokenKind.SYMBOL) != ".=." or len(names) != 4:
                continue
            sides = dict(zip((names[0], names[2]), (names[1], names[3]), strict=True))
            if set(sides) == {self.statement.alias, self.statement.source_alias}:
                found.append((sides[self.statement.alias], sides[self.statement.source_alias]))
        return found

    def _run(self, text: str, where: Expression, frames: dict[str, pl.LazyFrame]) -> pl.DataFrame:
        query = Query(text=text, line=where.line, column=where.column)
        with sql_errors(query):
            return query_frame(self.warehouse, query, frames).collect()

    @property
    def _target_alias(self) -> str:
        return quoted(self.statement.alias)

    @property
    def _source_alias(self) -> str:
        return quoted(self.statement.source_alias)


def _new(name: str) -> str:
    return f"__new_{name}"


def _conjuncts(tokens: Sequence[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.is_word("AND"):
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _narrowed(rows: pl.LazyFrame, name: str, source: pl.DataFrame, other: str) -> pl.LazyFrame:
    """The rows whose column may equal one of the source: partitions and files without any are not read."""
    dtype = rows.collect_schema().get(name)
    if dtype is None or source.schema.get(other) != dtype or dtype.is_nested():
        return rows
    values = source.get_column(other).drop_nulls().unique()
    if values.len() <= _MOST_LISTED_VALUES:
        return rows.filter(pl.col(name).is_in(values.implode()))
    return rows.filter(pl.col(name).is_between(values.min(), values.max()))


def _of_one_kind_each(
    changes: Sequence[pl.DataFrame], ids: Sequence[str], schema: TableSchema, *, table: str
) -> pl.DataFrame:
    """All changes as one frame with each row once. Raises InvalidRows."""
    rows = pl.concat(changes)
    deleted = rows.filter(pl.col(ROW_KIND) == "-D").unique(ids, maintain_order=True)
    rows = pl.concat([rows.filter(pl.col(ROW_KIND) != "-D"), deleted])
    named = rows if schema.primary_keys else rows.filter(pl.col(ROW_KIND) != "+I")
    twice = named.filter(pl.struct(ids).is_duplicated())
    if not twice.is_empty():
        told = "of the key " if schema.primary_keys else ""
        values = twice.select(schema.primary_keys or schema.column_names).row(0, named=True)
        shown = ", ".join(f"{name}={value!r}" for name, value in values.items())
        raise InvalidRows(
            f"table {table}: several rows of the source change the row {told}{shown}: make the source hold each key once"
        )
    return rows

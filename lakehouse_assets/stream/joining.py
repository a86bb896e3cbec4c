"""The join of two changelog tables, kept right under every insert, update and delete of either side.

The state is in the tables: for the join keys that a batch's changes name, both sides are read as of the snapshots that
were consumed and as of those that the batch consumes, both joins go through the transformation, and what differs is
written. So nothing is kept that could disagree, and a batch that is repeated gives the same difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lakehouse_assets.stream.declaration import Join, Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.key_share import KeyShare
from lakehouse_assets.stream.place import Place
from lakehouse_assets.stream.source import ROW_KIND, Pending, has_changelog, read_changes, read_in_portions, read_state
from lakehouse_assets.stream.states import difference, inserted, transformed_state
from storage_engine import LookupTable, Table
from storage_engine.lookup import LookupStats

_LEFT, _RIGHT = "\x1fleft", "\x1fright"


@dataclass(slots=True)
class _Side:
    """A table of the join: ``on`` its join columns, ``columns`` those that the join takes."""

    table: Table
    on: list[str]
    columns: list[str]
    _caches: dict[bool, LookupTable] = field(default_factory=dict)

    def rows(
        self, keys: pl.DataFrame, snapshot: int, changes: pl.DataFrame | None = None, *, goes_back: bool = False
    ) -> pl.DataFrame:
        """The rows of some keys at a snapshot, and those without a key that ``changes`` tell of.

        ``goes_back``: shares are read in turn, each before and after; a second cache stays at the snapshot before.
        """
        if snapshot == 0:
            return self._empty()
        keyed = self._cached(before=goes_back).rows(keys, snapshot).select(self.columns)
        return keyed if changes is None else pl.concat([keyed, self._without_key(snapshot, changes)])

    def _cached(self, *, before: bool) -> LookupTable:
        if before not in self._caches:
            self._caches[before] = LookupTable(self.table, on=self.on, columns=self.columns)
        return self._caches[before]

    def forget_before(self) -> None:
        """Let the second cache go: no shares are being read."""
        self._caches.pop(True, None)

    def keys(self, changes: pl.DataFrame) -> pl.DataFrame:
        """The join keys that changes name, before and after; rows without a key have none."""
        return changes.select(self.on).drop_nulls().unique()

    def whole(self, found: Pending, share: KeyShare | None) -> pl.DataFrame:
        """All rows at the snapshot that a reader begins with, or those of a share. Raises ChangesExpired."""
        if share is None or not found.until:
            return read_state(self.table, found.until).select(self.columns)
        parts = self._of_share(found, share, self.columns, start=True)
        return pl.concat([self._empty(), *(rows.select(self.columns) for rows in parts)])

    def changed(self, found: Pending, share: KeyShare | None) -> pl.DataFrame:
        """The changes, with the key and the join columns, or those of a share. Raises ChangesExpired."""
        columns = list(dict.fromkeys([*self.table.schema.primary_keys, *self.on]))
        read = list(dict.fromkeys([*columns, *self.columns])) if found.overwritten else columns  # are compared
        if share is None or not found.until > found.after:
            return read_changes(self.table, found, read).select(ROW_KIND, *columns)
        none = read_changes(self.table, Pending(after=found.until, until=found.until), columns)
        parts = self._of_share(found, share, read, start=False)
        return pl.concat([none, *(rows.select(none.columns) for rows in parts)])

    def stats(self) -> LookupStats | None:
        """What its cache holds."""
        return self._caches[False].stats if False in self._caches else None

    def _of_share(self, found: Pending, share: KeyShare, columns: list[str], *, start: bool) -> Iterator[pl.DataFrame]:
        place = Place(
            source=self.table.name,
            after=found.after,
            until=found.until,
            start=start,
            max_rows=share.max_rows,
            max_bytes=share.max_bytes,
            ranges=True,
            compared=(self.table.name,) if found.overwritten else (),
        )
        names = list(dict.fromkeys([*self.table.schema.primary_keys, *columns]))
        parts = read_in_portions(self.table, place, names)
        return (share.kept(rows, self.on, self.table.schema) for rows in parts)

    def _without_key(self, snapshot: int, changes: pl.DataFrame) -> pl.DataFrame:
        changed = changes.filter(_no_key(self.on))
        key = list(self.table.schema.primary_keys)
        if changed.is_empty():
            return self._empty()
        rows = self.table.lookup(changed.select(key), columns=self.columns, snapshot=snapshot)
        return rows.filter(_no_key(self.on))

    def _empty(self) -> pl.DataFrame:
        dtypes = self.table.schema.polars_schema
        return pl.DataFrame(schema={name: dtypes[name] for name in self.columns})


@dataclass(slots=True)
class Joining:
    """The join of one stream, with caches of both sides that live from batch to batch."""

    stream: Stream
    join: Join
    target_key: Sequence[str]
    left: _Side
    right: _Side
    rows_read: int = field(default=0)

    @staticmethod
    def of(stream: Stream, join: Join, target: Table, tables: Mapping[str, Table]) -> Joining:
        """Raises InvalidStream for a join that cannot be kept exact, or names unknown columns."""
        left, right = tables[stream.source], tables[join.table]
        for table, names in ((left, join.left_on), (right, (*join.right_on, *join.columns))):
            unknown = [name for name in names if name not in table.schema.column_names]
            if unknown:
                raise InvalidStream(f"{stream.name}: join: {table.name} has no such columns: {unknown}")
        _check(stream, join, left, right)
        return Joining(
            stream=stream,
            join=join,
            target_key=target.schema.primary_keys,
            left=_Side(table=left, on=list(join.left_on), columns=list(left.schema.column_names)),
            right=_Side(
                table=right, on=list(join.right_on), columns=list(dict.fromkeys([*join.right_on, *join.columns]))
            ),
        )

    def changes(self, pending: Mapping[str, Pending], *, start: bool, share: KeyShare | None = None) -> pl.DataFrame:
        """What a batch writes to the target, with ``_row_kind``; of a share of the keys. Raises ChangesExpired."""
        left, right = pending[self.left.table.name], pending[self.right.table.name]
        if share is None:
            self.left.forget_before()
            self.right.forget_before()
        if start:
            rows = self._transformed(self._joined(self.left.whole(left, share), self.right.whole(right, share)))
            self.rows_read = rows.height
            return inserted(rows)
        changed = [self.left.changed(left, share), self.right.changed(right, share)]
        self.rows_read = sum(changes.height for changes in changed)
        renamed = dict(zip(self.right.on, self.left.on, strict=True))
        keys = pl.concat([self.left.keys(changed[0]), self.right.keys(changed[1]).rename(renamed)]).unique()
        moves = [share is not None and each.after < each.until for each in (left, right)]
        before = self._state(keys, changed, (left.after, right.after), goes_back=moves)
        after = self._state(keys, changed, (left.until, right.until))
        written = difference(before, after, key=self.target_key, retracts=self.stream.reads == "changelog")
        return written if share is None else share.written(written)

    def widened(self, rows: pl.DataFrame, snapshot: int) -> pl.DataFrame:
        """Rows of the left side joined with the right side as of a snapshot, for repair."""
        keys = rows.select(self.left.on).drop_nulls().unique()
        right = self.right.rows(keys.rename(dict(zip(self.left.on, self.right.on, strict=True))), snapshot)
        return inserted(self._joined(rows.select(self.left.columns), right))

    def stats(self) -> dict[str, LookupStats]:
        """What the caches of both sides hold."""
        held = {side.table.name: side.stats() for side in (self.left, self.right)}
        return {f"{name} of the join": stats for name, stats in held.items() if stats is not None}

    def _state(
        self,
        keys: pl.DataFrame,
        changed: Sequence[pl.DataFrame],
        snapshots: tuple[int, int],
        *,
        goes_back: Sequence[bool] = (False, False),
    ) -> pl.DataFrame:
        """The target's rows of some join keys, as of a snapshot of either side."""
        of_right = keys.rename(dict(zip(self.left.on, self.right.on, strict=True)))
        left = self.left.rows(keys, snapshots[0], changed[0], goes_back=goes_back[0])
        right = self.right.rows(of_right, snapshots[1], changed[1], goes_back=goes_back[1])
        return self._transformed(self._joined(left, right))

    def _joined(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        join = self.join
        taken = right.select(
            *(pl.col(name).alias(f"{_RIGHT}{name}") for name in self.right.on),
            *(pl.col(name).alias(alias) for name, alias in join.columns.items()),
            pl.lit(value=True).alias(_RIGHT),
        )
        joined = left.with_columns(pl.lit(value=True).alias(_LEFT)).join(
            taken,
            left_on=self.left.on,
            right_on=[f"{_RIGHT}{name}" for name in self.right.on],
            how=join.how,
            coalesce=True,
        )
        told = ((join.found, _RIGHT), (join.left_found, _LEFT))
        found = [pl.col(side).fill_null(value=False).alias(name) for name, side in told if name is not None]
        return joined.select(*left.columns, *join.columns.values(), *found)

    def _transformed(self, rows: pl.DataFrame) -> pl.DataFrame:
        return transformed_state(self.stream, inserted(rows))


def _no_key(on: Sequence[str]) -> pl.Expr:
    return pl.any_horizontal(pl.col(name).is_null() for name in on)


def _check(stream: Stream, join: Join, left: Table, right: Table) -> None:
    if len(join.left_on) != len(join.right_on) or not join.left_on:
        raise InvalidStream(f"{stream.name}: join: left_on and right_on must name as many columns")
    if stream.lookups:
        raise InvalidStream(f"{stream.name}: a join of two tables has no lookups of its own: look up in a next stream")
    if join.how == "full" and stream.repair is not None:
        raise InvalidStream(f"{stream.name}: a full join is not repaired in parts, since some rows have no left side")
    for table, on in ((left, join.left_on), (right, join.right_on)):
        key = table.schema.primary_keys
        if not key or (not has_changelog(table) and not set(on) <= set(key)):
            raise InvalidStream(
                f"{stream.name}: join: {table.name} does not tell which rows it had before a change: give it a primary"
                " key, and a changelog producer unless its key holds the join columns"
            )
    told = (name for name in (join.found, join.left_found) if name is not None)
    names = [*left.schema.column_names, *join.columns.values(), *told]
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise InvalidStream(f"{stream.name}: join: columns given twice: {sorted(repeated)}; rename them in 'columns'")

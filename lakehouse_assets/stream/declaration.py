"""What a stream is: where its changes come from, what becomes of them, and where they go.

A stream is a value; nothing here reads or writes. The same declaration is run as one micro-batch, as a loop, or
for a repair of some partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import polars as pl

from lakehouse_assets.stream.modes import Mode
from storage_engine.errors import InvalidInput
from storage_engine.lookup import Strategy

Transform: TypeAlias = Callable[[pl.DataFrame], pl.DataFrame]
"""Rows of the source with ``_row_kind``, widened by the lookups → rows of the target, ``_row_kind`` optional.

A pure function that treats each row by itself.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """A dimension that widens the rows of a stream (a left join; a row without a match gets nulls).

    ``left_on``: column of the stream, or of an earlier lookup, that is equal to ``right_on`` of the dimension.
    ``columns``: column of the dimension → its name in the stream. ``found``: name of a Boolean column that tells
    whether there was a match. ``deleted``: Boolean column of the dimension that marks rows as gone. ``reemit``: when
    one of these changes in the dimension, rows that were joined with it before, or found nothing, go through the
    stream again (a stream that counts takes back what they added, and adds what they are now). ``hold``: a row that finds
    nothing is held back, and goes through when its dimension row arrives (it stays in the source meanwhile, and is taken back
    from the target if it had a match before); needs ``reemit``. ``workers``: of
    ``strategy="bucket-shuffle"``: so many processes share the dimension's buckets, each holding its own; 1: this one goes
    through them in turn.
    """

    table: str
    left_on: str
    columns: Mapping[str, str]
    right_on: str = "id"
    found: str | None = None
    deleted: str | None = None
    strategy: Strategy = "auto"
    reemit: bool = True
    hold: bool = False
    workers: int = 1

    @property
    def provided(self) -> tuple[str, ...]:
        """Columns that it adds to the stream."""
        return (*self.columns.values(), *(() if self.found is None else (self.found,)))

    @property
    def taken(self) -> tuple[str, ...]:
        """Columns of the dimension that it reads beside ``right_on``."""
        return (*self.columns, *(() if self.deleted is None else (self.deleted,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    """A second table whose changes drive the stream as those of its source do: the source ⋈ ``table``.

    ``left_on`` of the source equal ``right_on`` of the table (nulls match nothing). ``columns``: column of the table → its
    name in the stream. ``found``: name of a Boolean column that tells whether there was a row of the table. With "full", a
    row of the table without one of the source comes too: its key, and nulls; ``left_found`` names a column that tells it.
    """

    table: str
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    columns: Mapping[str, str]
    how: Literal["inner", "left", "full"] = "left"
    found: str | None = None
    left_found: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much one batch may read of the driving source: whole snapshots, as many as fit, or a portion of one that does not.

    ``max_bytes``: of the files that hold the changes. All changes of a key are in one portion. A join of two changelogs is read
    in shares of its join keys.
    """

    max_snapshots: int = 200
    max_rows: int = 1_000_000
    max_bytes: int | None = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """How parts of the target are recomputed.

    ``column``: the target's column whose values name the parts; ``source``: its value, from columns of the source.
    ``mode``: "difference" commits what differs, so that the target's changelog corrects those who read it;
    "overwrite" replaces whole partitions (``column`` is the partition column), which readers of changes do not see.
    """

    column: str
    source: pl.Expr
    mode: Literal["difference", "overwrite"] = "difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Changes of ``source`` → ``transform`` → ``target``, exactly once.

    ``reads``: "latest" hands the last change of each key to the transformation, as the state that the key has now
    (for targets that keep the newest row; one that it leaves out stays there, so it makes -D of what no longer passes);
    "changelog" hands all changes, retractions included (for aggregation).
    ``join``: the source is joined with a second table, whose changes count as its own do; the transformation then gets
    joined rows as inserts, and what it gives is compared with what it gave before.
    ``columns``: those of the source that the transformation reads, None: all; of what the source's changes are kept in, no
    others are read, beside its key and what lookups go by.
    ``computed``: column of the target → columns of the stream that it is computed from, for lineage. ``mode``: how it is
    run, None: as its project says. ``part``: where several streams fill one target, each has a name of its own in it; one that
    is named as its source goes on where the stream from there was while it was the only one. ``parts``: the names of all that
    fill the target, for those who look at the table alone (``by_target`` tells them).
    ``declared_at``: where it stands, as errors of a run tell it.
    """

    source: str
    target: str
    transform: Transform
    columns: tuple[str, ...] | None = None
    reads: Literal["latest", "changelog"] = "latest"
    lookups: tuple[Lookup, ...] = ()
    join: Join | None = None
    bounds: Bounds = field(default_factory=Bounds)
    repair: Repair | None = None
    computed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    description: str = ""
    mode: Mode | None = None
    part: str | None = None
    parts: tuple[str, ...] = ()
    declared_at: str = ""

    @property
    def name(self) -> str:
        """The name, which is also the commit user: it must stay the same for as long as the target lives."""
        return self.only_name if self.part is None else f"{self.only_name}@{self.part}"

    @property
    def only_name(self) -> str:
        """The name of a target's only stream."""
        return f"stream-{self.target}"

    @property
    def former_name(self) -> str | None:
        """The name that it had if its target had one stream before and has several now, or the other way round."""
        if self.part is None:
            return f"{self.only_name}@{self.source}"
        return self.only_name if self.part == self.source else None

    @property
    def repairer(self) -> str:
        """The commit user of repairs."""
        return f"repair-{self.target}"

    @property
    def resetter(self) -> str:
        """The commit user of repairs that move several streams of a target at once."""
        return f"reset-{self.target}"

    @property
    def sources(self) -> tuple[str, ...]:
        """Every table that it reads: the driving one first, then the dimensions, each once."""
        return tuple(dict.fromkeys((*self.driving, *(lookup.table for lookup in self.lookups))))

    @property
    def driving(self) -> tuple[str, ...]:
        """The tables whose changes it reads: the source, and the other side of a join."""
        return (self.source,) if self.join is None else (self.source, self.join.table)

    def columns_read(self, key: Sequence[str]) -> list[str] | None:
        """Columns that are read of the source, whose key is given; None: all."""
        if self.columns is None:
            return None
        provided = {name for lookup in self.lookups for name in lookup.provided}
        looked_up = [lookup.left_on for lookup in self.lookups if lookup.left_on not in provided]
        return list(dict.fromkeys([*key, *self.columns, *looked_up])) or None

    def origins(self, column: str, source_columns: Collection[str]) -> tuple[tuple[str, str], ...]:
        """Where a column of the target comes from, as (table, column)."""
        looked_up = {alias: (lookup, name) for lookup in self.lookups for name, alias in lookup.columns.items()}
        looked_up |= {lookup.found: (lookup, lookup.right_on) for lookup in self.lookups if lookup.found}
        found: list[tuple[str, str]] = []
        for name in self.computed.get(column, (column,)):
            if name in source_columns:
                found.append((self.source, name))
            elif name in looked_up:
                lookup, origin = looked_up[name]
                found.append((lookup.table, origin))
            elif self.join is not None and name in self.join.columns.values():
                found += [(self.join.table, origin) for origin, alias in self.join.columns.items() if alias == name]
        return tuple(found)


def by_target(streams: Iterable[Stream]) -> dict[str, tuple[Stream, ...]]:
    """The streams that fill each target, in their order; each knows the parts of all. One that does already stays the same."""
    found: dict[str, tuple[Stream, ...]] = {}
    for stream in streams:
        found[stream.target] = (*found.get(stream.target, ()), stream)
    return {target: _with_parts(own) for target, own in found.items()}


def _with_parts(streams: Sequence[Stream]) -> tuple[Stream, ...]:
    parts = tuple(stream.part or stream.source for stream in streams)
    return tuple(stream if stream.parts == parts else replace(stream, parts=parts) for stream in streams)


def of_one_target(streams: Stream | Sequence[Stream]) -> tuple[Stream, ...]:
    """One or more streams of a target. Raises InvalidInput if they are of several, or of none."""
    found = (streams,) if isinstance(streams, Stream) else tuple(streams)
    if len({stream.target for stream in found}) != 1:
        raise InvalidInput(f"expected streams of one target, got {sorted(stream.name for stream in found)}")
    return found


def sources_of(streams: Iterable[Stream]) -> tuple[str, ...]:
    """Every table that some streams read, each once."""
    return tuple(dict.fromkeys(source for stream in streams for source in stream.sources))

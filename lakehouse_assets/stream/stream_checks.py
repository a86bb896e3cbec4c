"""Whether a stream can be kept exactly once by the tables that it names; asked before the first batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lakehouse_assets.stream.declaration import Lookup, Stream
from lakehouse_assets.stream.errors import InvalidStream
from lakehouse_assets.stream.recounting import recounts
from lakehouse_assets.stream.source import has_changelog
from storage_engine import Table
from storage_engine.lookup import check_shuffle
from storage_engine.options import MergeEngine


def check_stream(stream: Stream, target: Table, tables: Mapping[str, Table]) -> None:
    """Raise InvalidStream for a declaration that could not be kept exactly once, or names unknown columns."""
    columns = set(tables[stream.source].schema.column_names)
    _check_columns(stream, columns)
    for lookup in stream.lookups:
        dimension = tables[lookup.table].schema
        unknown = [name for name in (lookup.right_on, *lookup.taken) if name not in dimension.column_names]
        if lookup.left_on not in columns or unknown:
            missing = [] if lookup.left_on in columns else [lookup.left_on]
            raise InvalidStream(f"{stream.name}: lookup in {lookup.table}: no such columns: {[*missing, *unknown]}")
        repeated = columns & set(lookup.provided)
        if repeated:
            raise InvalidStream(f"{stream.name}: lookup in {lookup.table} gives columns twice: {sorted(repeated)}")
        columns |= set(lookup.provided)
        if lookup.workers != 1 and lookup.strategy != "bucket-shuffle":
            raise InvalidStream(
                f"{stream.name}: lookup in {lookup.table} by {lookup.workers} workers: they share the buckets of"
                " strategy='bucket-shuffle'"
            )
        if lookup.strategy == "bucket-shuffle":
            check_shuffle(tables[lookup.table], [lookup.right_on])
    _check_engine(stream, target, tables)
    if any(lookup.hold and not lookup.reemit for lookup in stream.lookups):
        raise InvalidStream(f"{stream.name}: a lookup that holds rows back sends them again later: set reemit=True")


def _check_engine(stream: Stream, target: Table, tables: Mapping[str, Table]) -> None:
    """Raise InvalidStream where a change would be counted wrongly, since the tables do not tell what was there before."""
    engine = target.schema.table_options.merge_engine
    if recounts(stream) and (engine is not MergeEngine.AGGREGATION or not all(each.reemit for each in stream.lookups)):
        raise InvalidStream(
            f"{stream.name}: rows are taken back and counted again only in a table of merge engine aggregation, and if all"
            " lookups send them again: read 'latest' into a table that keeps the newest row, or set reemit=False"
        )
    silent = [each.table for each in stream.lookups if recounts(stream) and not _tells_keys(tables[each.table], each)]
    if silent:
        raise InvalidStream(
            f"{stream.name}: {silent[0]} does not tell what it had before a change: give it a changelog producer"
        )
    if stream.reads == "latest" and engine is MergeEngine.AGGREGATION:
        raise InvalidStream(f"{stream.name}: {stream.target} aggregates, so it must read the source's changelog")


def _check_columns(stream: Stream, columns: Collection[str]) -> None:
    unknown = [name for name in stream.columns or () if name not in columns]
    if unknown:
        raise InvalidStream(f"{stream.name}: columns: {stream.source} has no such columns: {unknown}")


def _tells_keys(dimension: Table, lookup: Lookup) -> bool:
    """Whether the changes of a dimension name the keys that its rows had."""
    return has_changelog(dimension) or {lookup.right_on} == set(dimension.schema.primary_keys)


def check_changes_are_told(stream: Stream, target: Table, source: Table) -> None:
    """Raise InvalidStream where an update would be counted twice, since the source does not tell what it takes back.

    That matters to batches of changes; a batch of all rows, and streams that compare states, need no changelog.
    """
    by_changes = stream.reads == "changelog" and stream.join is None and not recounts(stream)
    adds_up = target.schema.table_options.merge_engine is MergeEngine.AGGREGATION
    if by_changes and adds_up and source.schema.primary_keys and not has_changelog(source):
        raise InvalidStream(
            f"{stream.name}: {stream.source} keeps no changelog, so nobody tells what an update takes back, and {stream.target}"
            " would count it twice: give the source one ('changelog-producer' = 'lookup')"
        )

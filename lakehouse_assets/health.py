"""How a warehouse is: each table's shape, and how far the stream that fills it is behind. Reads metadata only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from lakehouse_assets.ingest import QUARANTINE
from lakehouse_assets.quarantine import counts
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import StreamError
from lakehouse_assets.stream.offsets import Consumed
from lakehouse_assets.stream.source import UNBOUNDED, pending
from storage_engine import Catalog, Snapshot, Table
from storage_engine.errors import NotFound, told

RATE_WINDOW_MS: Final = 60_000
SNAPSHOTS_LOOKED_AT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class TableHealth:
    """One table. ``rows``: physical ones, unmerged; ``debt_bytes``: of files that are not on the bucket's top level.

    ``behind``: changes of its sources that its streams have not consumed (None: no stream of tables fills it), all rows of a
    source that was never read; ``trouble``: why that cannot be told. ``rows_per_s``: written in the last minute. ``age_ms``: of
    the newest snapshot.
    """

    table: str
    snapshot: int | None
    age_ms: int | None
    rows: int
    files: int
    level0_files: int
    file_bytes: int
    debt_bytes: int
    rows_per_s: float
    behind: int | None = None
    sources: tuple[str, ...] = ()
    quarantined: int = 0
    trouble: str = ""


def warehouse_health(
    catalog: Catalog,
    *,
    now_ms: int,
    database: str | None = None,
    declared: Mapping[str, Sequence[Stream]] | None = None,
) -> list[TableHealth]:
    """Every table of a warehouse, or of one database, in the order of names. ``now_ms``: epoch milliseconds.

    ``declared``: the streams that fill each target, and no other ones count; None: those that were declared at its last commit.
    """
    refused = _refused(catalog)
    names = [
        f"{each}.{table}"
        for each in ([database] if database else catalog.list_databases())
        for table in catalog.list_tables(each)
    ]
    return [
        table_health(
            catalog,
            name,
            now_ms=now_ms,
            quarantined=refused.get(name, 0),
            streams=None if declared is None else declared.get(name, ()),
        )
        for name in names
    ]


def table_health(
    catalog: Catalog, name: str, *, now_ms: int, quarantined: int = 0, streams: Sequence[Stream] | None = None
) -> TableHealth:
    """One table; ``streams``: those that fill it, None: those that were declared at its last commit. Raises TableNotFound."""
    table = catalog.table(name)
    latest = table.latest_snapshot()
    files = table.files()
    behind, sources, trouble = _behind(catalog, table, streams)
    return TableHealth(
        table=name,
        snapshot=None if latest is None else latest.id,
        age_ms=None if latest is None else max(now_ms - latest.time_millis, 0),
        rows=int(files["record_count"].sum()),
        files=files.height,
        level0_files=int((files["level"] == 0).sum()),
        file_bytes=int(files["file_size_in_bytes"].sum()),
        debt_bytes=compaction_debt(files),
        rows_per_s=rows_per_s(table, now_ms=now_ms),
        behind=behind,
        sources=sources,
        quarantined=quarantined,
        trouble=trouble,
    )


def compaction_debt(files: pl.DataFrame) -> int:
    """Bytes of a table's files that lie above another level of their bucket: what a full compaction would rewrite at least."""
    top = pl.col("level").max().over("partition", "bucket")
    several = pl.len().over("partition", "bucket") > 1
    loose = (pl.col("level") < top) | ((pl.col("level") == 0) & several)
    return int(files.filter(loose)["file_size_in_bytes"].sum())


def rows_per_s(table: Table, *, now_ms: int) -> float:
    """Rows committed per second, of the last minute."""
    since = now_ms - RATE_WINDOW_MS
    rows, oldest = 0, now_ms
    for snapshot, _ in zip(table.store.snapshots.backwards(), range(SNAPSHOTS_LOOKED_AT), strict=False):
        if snapshot.time_millis < since:
            break
        rows += _written(snapshot)
        oldest = snapshot.time_millis
    return rows * 1000 / max(now_ms - oldest, 1000) if rows else 0.0


def _written(snapshot: Snapshot) -> int:
    return snapshot.delta_record_count if snapshot.commit_kind.value in ("APPEND", "OVERWRITE") else 0


def _behind(
    catalog: Catalog, table: Table, streams: Sequence[Stream] | None
) -> tuple[int | None, tuple[str, ...], str]:
    """What the streams that fill a table have not consumed, of which sources, and why that is not known."""
    if streams is None:
        found, unread = list(Consumed.of_target(table).values()), []
    else:
        found = [Consumed.of_stream(table, stream) for stream in streams]
        pairs = zip(streams, found, strict=True)
        unread = [name for stream, own in pairs for name in stream.driving if name not in own.positions]
    inside = [consumed.within for consumed in found if consumed.within is not None]
    read = [
        (name, int(position) if (place := consumed.within) is None else place.until_in(name) or int(position))
        for consumed in found
        for name, position in consumed.positions.items()
        if "." in name and str(position).isdecimal()
    ]
    waiting: list[tuple[str, int | None]] = [*read, *((name, None) for name in unread)]
    sources = tuple(dict.fromkeys(name for name, _ in waiting))
    behind = sum(place.left for place in inside)
    for name, position in waiting:
        try:
            behind += _rows_after(catalog.table(name), position)
        except (StreamError, NotFound) as error:
            return None, sources, f"{type(error).__name__}: {told(error)}".partition("\n")[0]
    return (behind if sources else None), sources, ""


def _rows_after(source: Table, position: int | None) -> int:
    """Changes behind a position; None: all rows, since nothing was read."""
    if position is not None:
        return pending(source, position, bounds=UNBOUNDED).rows
    latest = source.latest_snapshot()
    return 0 if latest is None else latest.total_record_count


def _refused(catalog: Catalog) -> Mapping[str, int]:
    try:
        return counts(catalog.table(QUARANTINE))
    except NotFound:
        return {}

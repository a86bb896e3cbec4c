"""Tags that commits make by themselves, and the expiry of tags.

Spec: "Manage Tags / Automatic Creation" of Apache Paimon 1.3.1. A tag is named after the period that has ended: the first
snapshot of the next day has what the day before came to.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from storage_engine.errors import SnapshotExpired, SnapshotNotFound
from storage_engine.lifecycle_options import LifecycleOptions, TagCreation
from storage_engine.maintenance.tags import create_tag, delete_tag
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.table_store import TableStore
from storage_engine.store.tags import Tag

_BATCH_FORMAT = "batch-write-%Y-%m-%d"


def create_due_tags(store: TableStore, schema: TableSchema) -> list[str]:
    """Make the tags that are due by the table's options, and remove those that are too many; returns the new names."""
    options = LifecycleOptions.parse(schema.options)
    if options.tag_creation is TagCreation.NONE:
        return []
    if options.tag_creation is TagCreation.BATCH:
        return _tag_of_the_day(store, schema, options)
    created = list(_due(store, schema, options))
    most = options.tag_num_retained_max
    if created and most is not None:
        mine = [tag for tag in store.tags.list() if tag_time(tag.name, options) is not None]
        _delete_oldest(store, schema, mine, most)
    return created


def _due(store: TableStore, schema: TableSchema, options: LifecycleOptions) -> Iterator[str]:
    latest = store.snapshots.latest()
    period = timedelta(milliseconds=options.tag_period_ms)
    after, next_tag = _last_tag(store, options)
    while latest is not None and after < latest.id:
        due = None if next_tag is None else next_tag + period
        if not _is_due(latest, due, options):
            return
        snapshot = _first_due(store, after + 1, latest.id, due, options)
        at = _time_of(snapshot, options)
        if at is None:
            return
        named = next_tag if options.tag_completion and next_tag is not None else _period_start(at, period) - period
        name = named.strftime(options.tag_format)
        if not store.tags.exists(name):
            create_tag(store, name, snapshot.id, schema=schema)
            yield name
        after, next_tag = snapshot.id, named + period


def _last_tag(store: TableStore, options: LifecycleOptions) -> tuple[int, datetime | None]:
    """The snapshot of the last automatic tag (0: none), and the time that the next one will bear."""
    for tag in reversed(store.tags.list()):
        time = tag_time(tag.name, options)
        if time is not None:
            return tag.snapshot.id, time + timedelta(milliseconds=options.tag_period_ms)
    return 0, None


def tag_time(name: str, options: LifecycleOptions) -> datetime | None:
    """The time that an automatic tag bears; None for a tag of another kind."""
    try:
        time = datetime.strptime(name, options.tag_format)  # noqa: DTZ007 - a tag's name has no zone
    except ValueError:
        return None
    return time if time.strftime(options.tag_format) == name else None


def _first_due(store: TableStore, low: int, high: int, due: datetime | None, options: LifecycleOptions) -> Snapshot:
    """The first retained snapshot from ``low`` on that is due. REQUIRES: ``high`` is."""
    ids = [snapshot_id for snapshot_id in store.snapshots.ids() if low <= snapshot_id <= high]
    first, last = 0, len(ids) - 1
    while first < last:
        middle = (first + last) // 2
        if _is_due(store.snapshots.get(ids[middle]), due, options):
            last = middle
        else:
            first = middle + 1
    return store.snapshots.get(ids[first])


def _is_due(snapshot: Snapshot, due: datetime | None, options: LifecycleOptions) -> bool:
    at = _time_of(snapshot, options)
    return at is not None and (due is None or at - timedelta(milliseconds=options.tag_delay_ms) >= due)


def _time_of(snapshot: Snapshot, options: LifecycleOptions) -> datetime | None:
    """What a snapshot is tagged by: wall-clock time without a zone; None without a watermark."""
    if options.tag_creation is not TagCreation.WATERMARK:
        return _wall_clock(snapshot.time_millis, options.process_time_zone)
    if snapshot.watermark is None or snapshot.watermark < 0:
        return None
    return _wall_clock(snapshot.watermark, options.watermark_time_zone)


def _wall_clock(millis: int, zone: tzinfo | None) -> datetime:
    """The time in a zone, None for that of this machine."""
    return datetime.fromtimestamp(millis / 1000, UTC).astimezone(zone).replace(tzinfo=None)


def _period_start(time: datetime, period: timedelta) -> datetime:
    origin = datetime(1970, 1, 1)  # noqa: DTZ001 - periods are counted in wall-clock time
    return origin + (time - origin) // period * period


def _tag_of_the_day(store: TableStore, schema: TableSchema, options: LifecycleOptions) -> list[str]:
    """Spec: mode ``batch``: the last commit of a day has its tag."""
    latest = store.snapshots.latest()
    if latest is None:
        return []
    name = options.tag_batch_name or _wall_clock(latest.time_millis, options.process_time_zone).strftime(_BATCH_FORMAT)
    if store.tags.exists(name):
        delete_tag(store, schema, name)
    try:
        create_tag(store, name, latest.id, schema=schema)
    except (SnapshotExpired, SnapshotNotFound):
        return []
    if options.tag_num_retained_max is not None:
        _delete_oldest(store, schema, store.tags.list(), options.tag_num_retained_max)
    return [name]


def _delete_oldest(store: TableStore, schema: TableSchema, found: list[Tag], most: int) -> None:
    for tag in found[: max(len(found) - most, 0)]:
        delete_tag(store, schema, tag.name)

"""What procedures do with the table that they are called for."""

from __future__ import annotations

from datetime import UTC, datetime

from storage_engine.errors import SnapshotNotFound, SqlError
from storage_engine.read.time_travel import at_or_before, first_snapshot
from storage_engine.spec.schema_change import UpdateColumnDefault
from storage_engine.spec.snapshot import Snapshot
from storage_engine.sql.modify import partition_values
from storage_engine.sql.procedure_arguments import (
    Arguments,
    duration_ms,
    flag,
    is_chosen,
    millis,
    names,
    number,
    optional_text,
    options,
    pair,
    partitions,
    text,
)
from storage_engine.table import Table

_MINOR, _FULL = "minor", "full"


def compact(table: Table, arguments: Arguments) -> None:
    """``sys.compact``: ``minor`` as a write would, ``full`` everything."""
    strategy = str(arguments.get("compact_strategy", _FULL)).lower()
    if strategy not in (_MINOR, _FULL):
        raise SqlError(f"argument 'compact_strategy' is {strategy!r}: expected 'minor' or 'full'")
    named = optional_text(arguments, "partitions")
    order = (optional_text(arguments, "order_strategy") or "none").lower()
    table.compact(
        full=strategy == _FULL,
        partitions=None if named is None else partitions(table, named),
        order_strategy=None if order == "none" else order,
        order_by=names(arguments, "order_by"),
    )


def rescale(table: Table, arguments: Arguments) -> None:
    """``sys.rescale``: a partition, or all, in another number of buckets."""
    named = optional_text(arguments, "partition")
    table.rescale(number(arguments, "bucket_num"), partitions=None if named is None else partitions(table, named))


def compact_manifest(table: Table, _: Arguments) -> None:
    """``sys.compact_manifest``."""
    table.compact_manifests()


def create_tag(table: Table, arguments: Arguments) -> None:
    """``sys.create_tag``."""
    table.create_tag(
        text(arguments, "tag"),
        number(arguments, "snapshot_id"),
        time_retained_ms=duration_ms(arguments, "time_retained"),
    )


def create_tag_from_timestamp(table: Table, arguments: Arguments) -> str:
    """``sys.create_tag_from_timestamp``: of the first snapshot at or after a time."""
    moment = millis(arguments, "timestamp") or 0
    found = first_snapshot(table.store, lambda snapshot: snapshot.time_millis >= moment)
    return _tagged(table, arguments, found, f"committed at or after {moment}")


def create_tag_from_watermark(table: Table, arguments: Arguments) -> str:
    """``sys.create_tag_from_watermark``: of the first snapshot whose watermark has reached a time."""
    moment = millis(arguments, "watermark") or 0
    found = first_snapshot(
        table.store, lambda snapshot: snapshot.watermark is not None and snapshot.watermark >= moment
    )
    return _tagged(table, arguments, found, f"with a watermark of at least {moment}")


def _tagged(table: Table, arguments: Arguments, snapshot: Snapshot | None, which: str) -> str:
    if snapshot is None:
        raise SnapshotNotFound(f"table {table.name} has no snapshot {which}")
    name = text(arguments, "tag")
    table.create_tag(name, snapshot.id, time_retained_ms=duration_ms(arguments, "time_retained"))
    return f"{name}, snapshot {snapshot.id}, committed at {snapshot.time_millis}, watermark {snapshot.watermark}"


def replace_tag(table: Table, arguments: Arguments) -> None:
    """``sys.replace_tag``."""
    table.replace_tag(
        text(arguments, "tag"),
        number(arguments, "snapshot_id"),
        time_retained_ms=duration_ms(arguments, "time_retained"),
    )


def rename_tag(table: Table, arguments: Arguments) -> None:
    """``sys.rename_tag``."""
    table.rename_tag(text(arguments, "tagname"), text(arguments, "targettagname"))


def delete_tag(table: Table, arguments: Arguments) -> None:
    """``sys.delete_tag``: one or several, separated by commas."""
    for name in names(arguments, "tag"):
        table.delete_tag(name)


def expire_tags(table: Table, arguments: Arguments) -> list[str]:
    """``sys.expire_tags``."""
    moment = millis(arguments, "older_than")
    older_than = (
        None if moment is None else datetime.fromtimestamp(moment / 1000, UTC).astimezone().replace(tzinfo=None)
    )
    return table.expire_tags(older_than=older_than) or ["No expired tags."]


def trigger_tag_automatic_creation(table: Table, _: Arguments) -> None:
    """``sys.trigger_tag_automatic_creation``."""
    table.create_due_tags()


def create_branch(table: Table, arguments: Arguments) -> None:
    """``sys.create_branch``."""
    table.create_branch(text(arguments, "branch"), optional_text(arguments, "tag"))


def delete_branch(table: Table, arguments: Arguments) -> None:
    """``sys.delete_branch``: one or several, separated by commas."""
    for name in names(arguments, "branch"):
        table.delete_branch(name)


def fast_forward(table: Table, arguments: Arguments) -> None:
    """``sys.fast_forward``."""
    table.fast_forward(text(arguments, "branch"))


def rollback_to(table: Table, arguments: Arguments) -> None:
    """``sys.rollback_to`` a tag or a snapshot."""
    snapshot_id = number(arguments, "snapshot_id")
    if (snapshot_id is None) is ("tag" not in arguments):
        raise SqlError("sys.rollback_to needs one of the arguments 'tag' and 'snapshot_id'")
    table.rollback_to(text(arguments, "tag") if snapshot_id is None else snapshot_id)


def rollback_to_timestamp(table: Table, arguments: Arguments) -> str:
    """``sys.rollback_to_timestamp``: to the last snapshot at or before a time."""
    target = at_or_before(table.store, millis(arguments, "timestamp") or 0, table=table.name)
    table.rollback_to(target.id)
    return f"Success roll back to snapshot: {target.id} ."


def rollback_to_watermark(table: Table, arguments: Arguments) -> str:
    """``sys.rollback_to_watermark``: to the last snapshot whose watermark is not beyond a time."""
    moment = millis(arguments, "watermark") or 0
    marked = [snapshot for snapshot in table.store.snapshots.backwards() if snapshot.watermark is not None]
    target = next((snapshot for snapshot in marked if (snapshot.watermark or 0) <= moment), None)
    if target is None:
        raise SnapshotNotFound(f"table {table.name} has no snapshot with a watermark of at most {moment}")
    table.rollback_to(target.id)
    return f"Success roll back to snapshot: {target.id} ."


def expire_snapshots(table: Table, arguments: Arguments) -> int:
    """``sys.expire_snapshots``; gives how many went."""
    return table.expire_snapshots(
        retain_max=number(arguments, "retain_max"),
        retain_min=number(arguments, "retain_min"),
        older_than_millis=millis(arguments, "older_than"),
        max_deletes=number(arguments, "max_deletes"),
    )


def expire_changelogs(table: Table, arguments: Arguments) -> int:
    """``sys.expire_changelogs``; gives how many went."""
    return table.expire_changelogs(
        retain_max=number(arguments, "retain_max"),
        retain_min=number(arguments, "retain_min"),
        older_than_millis=millis(arguments, "older_than"),
        max_deletes=number(arguments, "max_deletes"),
        delete_all=flag(arguments, "delete_all"),
    )


_EXPIRATION = {
    "expiration_time": "partition.expiration-time",
    "timestamp_formatter": "partition.timestamp-formatter",
    "timestamp_pattern": "partition.timestamp-pattern",
    "expire_strategy": "partition.expiration-strategy",
    "max_expires": "partition.expiration-max-num",
}


def expire_partitions(table: Table, arguments: Arguments) -> list[str]:
    """``sys.expire_partitions``; gives the partitions that went."""
    given = {key: str(arguments[name]) for name, key in _EXPIRATION.items() if name in arguments}
    expired = table.expire_partitions({**options(arguments), **given})
    return [", ".join(f"{name}={value}" for name, value in spec.items()) for spec in expired] or [
        "No expired partitions."
    ]


def drop_partition(table: Table, arguments: Arguments) -> None:
    """``sys.drop_partition``: given in full or in part, ``dt=2024-01-01;dt=2024-01-02``."""
    table.drop_partitions(_in_part(table, text(arguments, "partitions")))


def rewrite_file_index(table: Table, arguments: Arguments) -> None:
    """``sys.rewrite_file_index``: of all partitions, or of some given in full or in part."""
    named = optional_text(arguments, "partitions")
    table.rewrite_file_indexes(None if named is None else _in_part(table, named))


def _in_part(table: Table, named: str) -> list[dict[str, object]]:
    return [partition_values(table, dict(map(pair, spec.split(",")))) for spec in named.split(";")]


def mark_partition_done(table: Table, arguments: Arguments) -> None:
    """``sys.mark_partition_done``: a file ``_SUCCESS`` in each of the partitions."""
    table.mark_partitions_done(partitions(table, text(arguments, "partitions")))


def remove_orphan_files(table: Table, arguments: Arguments) -> list[str]:
    """``sys.remove_orphan_files``; gives their paths."""
    return table.remove_orphan_files(
        older_than_millis=millis(arguments, "older_than"), dry_run=flag(arguments, "dry_run")
    )


def remove_unexisting_files(table: Table, arguments: Arguments) -> list[str]:
    """``sys.remove_unexisting_files``; gives the paths that are missing."""
    return table.remove_unexisting_files(dry_run=flag(arguments, "dry_run"))


def purge_files(table: Table, _: Arguments) -> None:
    """``sys.purge_files``: nothing is left but the definition."""
    table.purge()


def reset_consumer(table: Table, arguments: Arguments) -> None:
    """``sys.reset_consumer``: to a snapshot, or away."""
    name, position = text(arguments, "consumer_id"), number(arguments, "next_snapshot_id")
    if position is None:
        table.delete_consumer(name)
    else:
        table.set_consumer(name, position)


def clear_consumers(table: Table, arguments: Arguments) -> None:
    """``sys.clear_consumers`` whose names match the patterns."""
    including, excluding = (
        optional_text(arguments, "including_consumers"),
        optional_text(arguments, "excluding_consumers"),
    )
    for name in table.consumers()["consumer_id"]:
        if is_chosen(name, including, excluding):
            table.delete_consumer(name)


def alter_column_default_value(table: Table, arguments: Arguments) -> None:
    """``sys.alter_column_default_value``; none if no value is given."""
    path = tuple(text(arguments, "column").split("."))
    table.alter(UpdateColumnDefault(path=path, default_value=optional_text(arguments, "default_value")))

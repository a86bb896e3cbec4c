"""``CALL sys.…``: Paimon's procedures by name, with its argument names, by position or by name.

Spec: "Procedures" of Apache Paimon 1.3.1. Each gives a frame with one column ``result``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from storage_engine.errors import SqlError, Unsupported
from storage_engine.sql import table_procedures as run
from storage_engine.sql.procedure_arguments import Arguments, is_chosen, optional_text, text
from storage_engine.sql.statements import Argument, Call, Literal
from storage_engine.table import Table
from storage_engine.warehouse import Warehouse

_RETENTION = ("retain_max", "retain_min", "older_than", "max_deletes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """Argument names in Paimon's order, and what is done with the table that the first one names."""

    arguments: tuple[str, ...]
    required: tuple[str, ...] = ()
    unsupported: frozenset[str] = frozenset()
    run: Callable[[Table, Arguments], object]


def call(warehouse: Warehouse, statement: Call) -> pl.DataFrame:
    """Run a procedure. Raises SqlError for an unknown one or wrong arguments, and what the operation raises."""
    name = statement.procedure.lower()
    if name in _ELSEWHERE:
        raise Unsupported(f"sys.{name} is not done here: {_ELSEWHERE[name]}")
    if name == "compact_database":
        return _result(_compact_database(warehouse, _bound(statement, _COMPACT_DATABASE, required=())))
    procedure = PROCEDURES.get(name)
    if procedure is None:
        known = ", ".join(sorted((*PROCEDURES, "compact_database")))
        raise SqlError(f"there is no procedure sys.{statement.procedure}; known: {known}")
    arguments = _bound(
        statement, procedure.arguments, required=("table", *procedure.required), unsupported=procedure.unsupported
    )
    return _result(procedure.run(warehouse.table(text(arguments, "table")), arguments))


def _result(results: object) -> pl.DataFrame:
    listed = results if isinstance(results, list) else ["Success" if results is None else results]
    return pl.DataFrame({"result": [str(result) for result in listed]}, schema={"result": pl.String()})


def _bound(
    statement: Call, known: tuple[str, ...], *, required: tuple[str, ...], unsupported: frozenset[str] = frozenset()
) -> dict[str, Literal]:
    name = f"sys.{statement.procedure}"
    if len(statement.arguments) > len(known):
        raise SqlError(f"{name} takes at most {len(known)} arguments: {', '.join(known)}")
    bound: dict[str, Literal] = {}
    for position, argument in enumerate(statement.arguments):
        key = _key(argument, known[position])
        if key not in known:
            raise SqlError(f"{name} has no argument {key!r}; known: {', '.join(known)}")
        if key in bound:
            raise SqlError(f"{name}: argument {key!r} is given twice")
        bound[key] = argument.value
    given: dict[str, Literal] = {key: value for key, value in bound.items() if value not in (None, "")}
    refused = [key for key in given if key in unsupported]
    if refused:
        raise Unsupported(f"{name}: the argument {refused[0]!r} is not done here: leave it out")
    missing = [key for key in required if key not in given]
    if missing:
        raise SqlError(f"{name} needs the argument {missing[0]!r}, as in CALL {name}({missing[0]} => '…')")
    return given


def _key(argument: Argument, by_position: str) -> str:
    return by_position if argument.name is None else argument.name.lower()


_COMPACT_DATABASE = (
    "including_databases",
    "mode",
    "including_tables",
    "excluding_tables",
    "table_options",
    "partition_idle_time",
    "compact_strategy",
)


def _compact_database(warehouse: Warehouse, arguments: Arguments) -> list[str]:
    """Compact the tables whose names match the patterns; gives their names."""
    refused = [key for key in ("table_options", "partition_idle_time") if key in arguments]
    if refused:
        raise Unsupported(f"sys.compact_database: the argument {refused[0]!r} is not done here: leave it out")
    databases = optional_text(arguments, "including_databases")
    including, excluding = optional_text(arguments, "including_tables"), optional_text(arguments, "excluding_tables")
    done = []
    for database in warehouse.list_databases():
        for table in warehouse.list_tables(database) if is_chosen(database, databases, None) else ():
            name = f"{database}.{table}"
            if is_chosen(name, including, excluding):
                run.compact(warehouse.table(name), {"compact_strategy": "minor", **arguments})
                done.append(name)
    return done


_ELSEWHERE: Mapping[str, str] = {
    "merge_into": "run MERGE INTO as a statement",
    "migrate_table": "there is no Hive catalog; read the files with Polars and write them",
    "migrate_database": "there is no Hive catalog; read the files with Polars and write them",
    "migrate_iceberg_table": "read the table with Polars and write it",
    "clone": "CREATE TABLE … AS SELECT copies a table",
    "copy_files": "CREATE TABLE … AS SELECT copies a table",
    "repair": "a directory is its own catalog, so that there is no metastore to repair",
    "query_service": "Table.lookup answers queries by key",
    **dict.fromkeys(
        ("create_function", "alter_function", "drop_function", "alter_view_dialect"),
        "a directory keeps no functions and no views",
    ),
    **dict.fromkeys(
        (
            "init_file_based_privilege",
            "create_privileged_user",
            "drop_privileged_user",
            "grant_privilege_to_user",
            "revoke_privilege_from_user",
        ),
        "who may read and write is the object store's decision",
    ),
}

PROCEDURES: Mapping[str, Procedure] = {
    "compact": Procedure(
        arguments=(
            "table",
            "partitions",
            "order_strategy",
            "order_by",
            "options",
            "where",
            "partition_idle_time",
            "compact_strategy",
        ),
        unsupported=frozenset({"options", "where", "partition_idle_time"}),
        run=run.compact,
    ),
    "rescale": Procedure(
        arguments=("table", "bucket_num", "partition", "scan_parallelism", "sink_parallelism"),
        unsupported=frozenset({"scan_parallelism", "sink_parallelism"}),
        run=run.rescale,
    ),
    "rewrite_file_index": Procedure(arguments=("table", "partitions"), run=run.rewrite_file_index),
    "compact_manifest": Procedure(
        arguments=("table", "options"), unsupported=frozenset({"options"}), run=run.compact_manifest
    ),
    "create_tag": Procedure(
        arguments=("table", "tag", "snapshot_id", "time_retained"), required=("tag",), run=run.create_tag
    ),
    "create_tag_from_timestamp": Procedure(
        arguments=("table", "tag", "timestamp", "time_retained"),
        required=("tag", "timestamp"),
        run=run.create_tag_from_timestamp,
    ),
    "create_tag_from_watermark": Procedure(
        arguments=("table", "tag", "watermark", "time_retained"),
        required=("tag", "watermark"),
        run=run.create_tag_from_watermark,
    ),
    "replace_tag": Procedure(
        arguments=("table", "tag", "snapshot_id", "time_retained"), required=("tag",), run=run.replace_tag
    ),
    "rename_tag": Procedure(
        arguments=("table", "tagname", "targettagname"), required=("tagname", "targettagname"), run=run.rename_tag
    ),
    "delete_tag": Procedure(arguments=("table", "tag"), required=("tag",), run=run.delete_tag),
    "expire_tags": Procedure(arguments=("table", "older_than"), run=run.expire_tags),
    "trigger_tag_automatic_creation": Procedure(arguments=("table",), run=run.trigger_tag_automatic_creation),
    "create_branch": Procedure(arguments=("table", "branch", "tag"), required=("branch",), run=run.create_branch),
    "delete_branch": Procedure(arguments=("table", "branch"), required=("branch",), run=run.delete_branch),
    "fast_forward": Procedure(arguments=("table", "branch"), required=("branch",), run=run.fast_forward),
    "rollback_to": Procedure(arguments=("table", "tag", "snapshot_id"), run=run.rollback_to),
    "rollback_to_timestamp": Procedure(
        arguments=("table", "timestamp"), required=("timestamp",), run=run.rollback_to_timestamp
    ),
    "rollback_to_watermark": Procedure(
        arguments=("table", "watermark"), required=("watermark",), run=run.rollback_to_watermark
    ),
    "expire_snapshots": Procedure(
        arguments=("table", *_RETENTION, "options"), unsupported=frozenset({"options"}), run=run.expire_snapshots
    ),
    "expire_changelogs": Procedure(arguments=("table", *_RETENTION, "delete_all"), run=run.expire_changelogs),
    "expire_partitions": Procedure(
        arguments=(
            "table",
            "expiration_time",
            "timestamp_formatter",
            "timestamp_pattern",
            "expire_strategy",
            "max_expires",
            "options",
        ),
        run=run.expire_partitions,
    ),
    "drop_partition": Procedure(arguments=("table", "partitions"), required=("partitions",), run=run.drop_partition),
    "mark_partition_done": Procedure(
        arguments=("table", "partitions"), required=("partitions",), run=run.mark_partition_done
    ),
    "remove_orphan_files": Procedure(
        arguments=("table", "older_than", "dry_run", "parallelism", "mode"),
        unsupported=frozenset({"parallelism", "mode"}),
        run=run.remove_orphan_files,
    ),
    "remove_unexisting_files": Procedure(
        arguments=("table", "dry_run", "parallelism"),
        unsupported=frozenset({"parallelism"}),
        run=run.remove_unexisting_files,
    ),
    "purge_files": Procedure(arguments=("table",), run=run.purge_files),
    "reset_consumer": Procedure(
        arguments=("table", "consumer_id", "next_snapshot_id"), required=("consumer_id",), run=run.reset_consumer
    ),
    "clear_consumers": Procedure(
        arguments=("table", "including_consumers", "excluding_consumers"), run=run.clear_consumers
    ),
    "alter_column_default_value": Procedure(
        arguments=("table", "column", "default_value"), required=("column",), run=run.alter_column_default_value
    ),
}

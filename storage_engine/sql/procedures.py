"""``CALL sys.…``: Paimon's procedures, with its argument names, by position or by name.

Spec: "Procedures" of Apache Paimon. Each gives a frame with one column ``result``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from storage_engine.errors import SqlError, Unsupported
from storage_engine.options import parse_bool
from storage_engine.sql.modify import partition_values
from storage_engine.sql.statements import Argument, Call, Literal
from storage_engine.table import Table
from storage_engine.warehouse import Warehouse

_MINI_BATCH, _FULL = "minor", "full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """Argument names in Paimon's order (the first is always ``table``), and what is done with them."""

    arguments: tuple[str, ...]
    required: tuple[str, ...] = ()
    unsupported: frozenset[str] = frozenset()
    run: Callable[[Table, Mapping[str, Literal]], object]


def call(warehouse: Warehouse, statement: Call) -> pl.DataFrame:
    """Run a procedure. Raises SqlError for an unknown one or wrong arguments, and what the operation raises."""
    procedure = PROCEDURES.get(statement.procedure.lower())
    if procedure is None:
        raise SqlError(f"there is no procedure sys.{statement.procedure}; known: {', '.join(sorted(PROCEDURES))}")
    arguments = _bound(statement, procedure)
    table = warehouse.table(_text(arguments, "table"))
    results = procedure.run(table, arguments)
    listed = results if isinstance(results, list) else ["Success" if results is None else results]
    return pl.DataFrame({"result": [str(result) for result in listed]}, schema={"result": pl.String()})


def _bound(statement: Call, procedure: Procedure) -> dict[str, Literal]:
    name, known = f"sys.{statement.procedure}", procedure.arguments
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
    refused = [key for key in given if key in procedure.unsupported]
    if refused:
        raise Unsupported(f"{name}: the argument {refused[0]!r} is not done here: leave it out")
    missing = [key for key in ("table", *procedure.required) if key not in given]
    if missing:
        raise SqlError(f"{name} needs the argument {missing[0]!r}, as in CALL {name}({missing[0]} => '…')")
    return given


def _key(argument: Argument, by_position: str) -> str:
    return by_position if argument.name is None else argument.name.lower()


def _text(arguments: Mapping[str, Literal], key: str) -> str:
    return str(arguments[key])


def _optional_text(arguments: Mapping[str, Literal], key: str) -> str | None:
    return _text(arguments, key) if key in arguments else None


def _number(arguments: Mapping[str, Literal], key: str) -> int | None:
    value = arguments.get(key)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d+", value):
        return int(value)
    raise SqlError(f"argument {key!r} is {value!r}: expected a whole number")


def _flag(arguments: Mapping[str, Literal], key: str) -> bool:
    try:
        return parse_bool(str(arguments.get(key, "false")))
    except ValueError as cause:
        raise SqlError(f"argument {key!r} is {arguments[key]!r}: {cause}") from cause


def _millis(arguments: Mapping[str, Literal], key: str) -> int | None:
    """``'2026-11-23 12:00:00'`` in UTC, or epoch milliseconds."""
    value = arguments.get(key)
    if value is None or isinstance(value, int):
        return value
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError as cause:
        raise SqlError(f"argument {key!r} is {value!r}: expected a time such as '2026-11-23 12:00:00'") from cause
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return int(aware.timestamp() * 1000)


def _partitions(table: Table, text: str) -> list[dict[str, object]]:
    """``v_date=2024-01-01,hour=1;v_date=…`` as full partition specs."""
    specs = []
    for spec in text.split(";"):
        values = partition_values(table, dict(_pair(pair) for pair in spec.split(",")))
        if len(values) < len(table.schema.partition_keys):
            raise SqlError(f"partition {spec!r}: expected values of {', '.join(table.schema.partition_keys)}")
        specs.append(values)
    return specs


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise SqlError(f"partition {text!r}: expected column=value")
    return name.strip(), value.strip().strip("'")


def _compact(table: Table, arguments: Mapping[str, Literal]) -> None:
    strategy = str(arguments.get("compact_strategy", _FULL)).lower()
    if strategy not in (_MINI_BATCH, _FULL):
        raise SqlError(f"argument 'compact_strategy' is {strategy!r}: expected 'minor' or 'full'")
    named = _optional_text(arguments, "partitions")
    partitions = None if named is None else _partitions(table, named)
    order_by = _optional_text(arguments, "order_by") or ""
    table.compact(
        full=strategy == _FULL,
        partitions=partitions,
        order_strategy=_order_strategy(arguments),
        order_by=[name.strip() for name in order_by.split(",") if name.strip()],
    )


def _order_strategy(arguments: Mapping[str, Literal]) -> str | None:
    strategy = _optional_text(arguments, "order_strategy")
    return None if strategy is None or strategy.lower() == "none" else strategy.lower()


def _create_tag(table: Table, arguments: Mapping[str, Literal]) -> None:
    table.create_tag(_text(arguments, "tag"), _number(arguments, "snapshot_id"))


def _delete_tag(table: Table, arguments: Mapping[str, Literal]) -> None:
    for name in _text(arguments, "tag").split(","):
        table.delete_tag(name.strip())


def _create_branch(table: Table, arguments: Mapping[str, Literal]) -> None:
    table.create_branch(_text(arguments, "branch"), _optional_text(arguments, "tag"))


def _delete_branch(table: Table, arguments: Mapping[str, Literal]) -> None:
    for name in _text(arguments, "branch").split(","):
        table.delete_branch(name.strip())


def _fast_forward(table: Table, arguments: Mapping[str, Literal]) -> None:
    table.fast_forward(_text(arguments, "branch"))


def _rollback_to(table: Table, arguments: Mapping[str, Literal]) -> None:
    snapshot_id = _number(arguments, "snapshot_id")
    if (snapshot_id is None) is ("tag" not in arguments):
        raise SqlError("sys.rollback_to needs one of the arguments 'tag' and 'snapshot_id'")
    table.rollback_to(_text(arguments, "tag") if snapshot_id is None else snapshot_id)


def _expire_snapshots(table: Table, arguments: Mapping[str, Literal]) -> object:
    return table.expire_snapshots(
        retain_max=_number(arguments, "retain_max"),
        retain_min=_number(arguments, "retain_min"),
        older_than_millis=_millis(arguments, "older_than"),
        max_deletes=_number(arguments, "max_deletes"),
    )


def _remove_orphan_files(table: Table, arguments: Mapping[str, Literal]) -> object:
    return table.remove_orphan_files(
        older_than_millis=_millis(arguments, "older_than"), dry_run=_flag(arguments, "dry_run")
    )


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
        run=_compact,
    ),
    "create_tag": Procedure(
        arguments=("table", "tag", "snapshot_id", "time_retained"),
        required=("tag",),
        unsupported=frozenset({"time_retained"}),
        run=_create_tag,
    ),
    "delete_tag": Procedure(arguments=("table", "tag"), required=("tag",), run=_delete_tag),
    "create_branch": Procedure(arguments=("table", "branch", "tag"), required=("branch",), run=_create_branch),
    "delete_branch": Procedure(arguments=("table", "branch"), required=("branch",), run=_delete_branch),
    "fast_forward": Procedure(arguments=("table", "branch"), required=("branch",), run=_fast_forward),
    "rollback_to": Procedure(arguments=("table", "tag", "snapshot_id"), run=_rollback_to),
    "expire_snapshots": Procedure(
        arguments=("table", "retain_max", "retain_min", "older_than", "max_deletes", "options"),
        unsupported=frozenset({"options"}),
        run=_expire_snapshots,
    ),
    "remove_orphan_files": Procedure(
        arguments=("table", "older_than", "dry_run", "parallelism", "mode"),
        unsupported=frozenset({"parallelism", "mode"}),
        run=_remove_orphan_files,
    ),
}

"""Merge engines as plain Python: one record after the other, as the specification tells it. The judge of the vectorised ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.spec.types import DataField, parse_type

Record = dict[str, Any]
INSERT, UPDATE_BEFORE, UPDATE_AFTER, DELETE = range(4)
SEQUENCE, KIND = "_SEQUENCE_NUMBER", "_VALUE_KIND"


class CannotMerge(Exception):
    """The engine of the specification throws here."""


def schema_of(
    columns: Mapping[str, str],
    options: Mapping[str, str] | None = None,
    *,
    primary_keys: Sequence[str] = ("k",),
    partition_keys: Sequence[str] = (),
) -> TableSchema:
    fields = [DataField(id=i, name=name, type=parse_type(text)) for i, (name, text) in enumerate(columns.items())]
    return create_schema(fields, primary_keys=primary_keys, partition_keys=partition_keys, options=options or {})


def frame_of(records: Iterable[Record], schema: TableSchema, **more: pl.DataType) -> pl.DataFrame:
    system = {SEQUENCE: pl.Int64(), KIND: pl.Int8()}
    return pl.DataFrame(list(records), schema={**more, **schema.polars_schema, **system}, orient="row")


def is_retract(record: Record) -> bool:
    return record[KIND] in (UPDATE_BEFORE, DELETE)


def lowest_null(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple((value is not None, value if value is not None else 0) for value in values)


def merge_model(
    records: Sequence[Record], schema: TableSchema, *, group: Sequence[str] = (), pass_through: bool = True
) -> list[Record]:
    """Records of any order to one for each (group, key), in their order."""
    key = [*group, *schema.trimmed_primary_keys]
    sequence = schema.table_options.sequence_field
    by_key: dict[tuple[Any, ...], list[Record]] = {}
    for record in records:
        by_key.setdefault(tuple(record[name] for name in key), []).append(record)
    merged = []
    for _, same in sorted(by_key.items()):
        same.sort(key=lambda record: (lowest_null([record[name] for name in sequence]), record[SEQUENCE]))
        if len(same) == 1 and pass_through:
            merged.append(same[0])
            continue
        result = ENGINES[schema.table_options.merge_engine](same, schema)
        if result is not None:
            merged.append(result)
    return merged


def deduplicate(records: Sequence[Record], schema: TableSchema) -> Record | None:
    latest = None
    for record in records:
        if schema.table_options.ignore_delete and is_retract(record):
            continue
        latest = record
    return latest


def first_row(records: Sequence[Record], schema: TableSchema) -> Record | None:
    first = None
    for record in records:
        if is_retract(record):
            if schema.table_options.ignore_delete:
                continue
            raise CannotMerge
        first = first or record
    return first


def _either(accumulator: Any, value: Any, both: Callable[[Any, Any], Any]) -> Any:
    if accumulator is None or value is None:
        return value if accumulator is None else accumulator
    return both(accumulator, value)


def _wrapped(value: int, bits: int) -> int:
    return (value + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)


_BITS = {"TINYINT": 8, "SMALLINT": 16, "INT": 32, "BIGINT": 64}


class Cell:
    """One aggregated column: ``agg``, ``retract`` and the reversed ``agg``."""

    def __init__(self, schema: TableSchema, name: str, function: str) -> None:
        options, prefix = schema.options, f"fields.{name}."
        self.function = function
        self.bits = _BITS.get(schema.by_name[name].type.root.value)
        self.ignores = options.get(f"{prefix}ignore-retract") == "true"
        self.delimiter = options.get(f"{prefix}list-agg-delimiter", ",")
        self.distinct = options.get(f"{prefix}distinct") == "true"
        self.nested_key = [part for part in options.get(f"{prefix}nested-key", "").split(",") if part]
        self.limit = int(options.get(f"{prefix}count-limit", 2**31 - 1))
        self.seen = False

    def agg(self, accumulator: Any, value: Any) -> Any:
        return getattr(self, f"_{self.function}")(accumulator, value)

    def agg_reversed(self, accumulator: Any, value: Any) -> Any:
        return self.agg(accumulator, value) if self.function == "collect" else self.agg(value, accumulator)

    def retract(self, accumulator: Any, value: Any) -> Any:
        if self.ignores:
            return accumulator
        retractor = getattr(self, f"_undo_{self.function}", None)
        if retractor is None:
            raise CannotMerge
        return retractor(accumulator, value)

    def _sum(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: _wrapped(a + b, self.bits) if self.bits else a + b)

    def _undo_sum(self, accumulator: Any, value: Any) -> Any:
        negative = None if value is None else (_wrapped(-value, self.bits) if self.bits else -value)
        return self._sum(accumulator, negative)

    def _product(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: _wrapped(a * b, self.bits or 64))

    def _undo_product(self, accumulator: Any, value: Any) -> Any:
        if accumulator is None or value is None:
            return accumulator
        if value == 0:
            raise CannotMerge
        quotient = abs(accumulator) // abs(value)
        return _wrapped(quotient if (accumulator < 0) == (value < 0) else -quotient, self.bits or 64)

    def _max(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, max)

    def _min(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, min)

    def _bool_and(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: a and b)

    def _bool_or(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: a or b)

    def _last_value(self, accumulator: Any, value: Any) -> Any:
        return value

    def _undo_last_value(self, accumulator: Any, value: Any) -> Any:
        return None

    def _last_non_null_value(self, accumulator: Any, value: Any) -> Any:
        return accumulator if value is None else value

    def _undo_last_non_null_value(self, accumulator: Any, value: Any) -> Any:
        return accumulator if value is None else None

    def _first_value(self, accumulator: Any, value: Any) -> Any:
        if self.seen:
            return accumulator
        self.seen = True
        return value

    def _first_non_null_value(self, accumulator: Any, value: Any) -> Any:
        if self.seen or value is None:
            return accumulator
        self.seen = True
        return value

    def _listagg(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: a + self.delimiter + b)

    def _collect(self, accumulator: Any, value: Any) -> Any:
        if accumulator is None and value is None:
            return None
        both = [*(accumulator or ()), *(value or ())]
        return list(dict.fromkeys(both)) if self.distinct else both

    def _undo_collect(self, accumulator: Any, value: Any) -> Any:
        if accumulator is None or not value:
            return accumulator
        wanted, kept = list(value), []
        for element in accumulator:
            if element in wanted:
                wanted.remove(element)
            else:
                kept.append(element)
        return kept

    def _merge_map(self, accumulator: Any, value: Any) -> Any:
        return _either(accumulator, value, lambda a, b: _entries({**_mapping(a), **_mapping(b)}))

    def _undo_merge_map(self, accumulator: Any, value: Any) -> Any:
        if accumulator is None or not value:
            return accumulator
        gone = _mapping(value)
        return _entries({key: item for key, item in _mapping(accumulator).items() if key not in gone})

    def _nested_update(self, accumulator: Any, value: Any) -> Any:
        def both(a: list[Any], b: list[Any]) -> list[Any]:
            if len(a) >= self.limit:
                return a
            rows = [*a, *b[: self.limit - len(a)]]
            return list({self._identity(row): row for row in rows}.values()) if self.nested_key else rows

        return _either(accumulator, value, both)

    def _undo_nested_update(self, accumulator: Any, value: Any) -> Any:
        if self.limit < 2**31 - 1:
            raise CannotMerge
        if accumulator is None or value is None:
            return accumulator
        gone = [self._identity(row) for row in value]
        kept = {self._identity(row): row for row in accumulator} if self.nested_key else None
        rows = list(kept.values()) if kept is not None else accumulator
        return [row for row in rows if self._identity(row) not in gone]

    def _identity(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.nested_key or row)


def _mapping(entries: list[dict[str, Any]]) -> dict[Any, Any]:
    return {entry["key"]: entry["value"] for entry in entries}


def _entries(mapping: dict[Any, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in mapping.items()]


def _function_of(schema: TableSchema, name: str) -> str | None:
    return schema.options.get(
        f"fields.{name}.aggregate-function", schema.options.get("fields.default-aggregate-function")
    )


def aggregation(records: Sequence[Record], schema: TableSchema) -> Record | None:
    removes = schema.options.get("aggregation.remove-record-on-delete") == "true"
    cells = {}
    for name in schema.column_names:
        if name in schema.table_options.sequence_field:
            cells[name] = Cell(schema, name, "last_value")
        elif name not in schema.primary_keys:
            cells[name] = Cell(schema, name, _function_of(schema, name) or "last_non_null_value")
    row: Record = dict.fromkeys(schema.column_names)
    kind = INSERT
    for record in records:
        kind = INSERT
        keys = {name: record[name] for name in schema.primary_keys}
        if removes and record[KIND] == DELETE:
            kind = DELETE
            row = {name: None if schema.by_name[name].type.nullable else record[name] for name in schema.column_names}
            continue
        for name, cell in cells.items():
            row[name] = (cell.retract if is_retract(record) else cell.agg)(row[name], record[name])
        row |= keys
    return {**records[-1], **row, KIND: kind}


class PartialUpdate:
    """The state of one row while partial updates come in."""

    def __init__(self, schema: TableSchema) -> None:
        self.schema = schema
        self.options = schema.options
        self.row: Record = dict.fromkeys(schema.column_names)
        self.deleted = self.met_insert = self.filled = False
        self.sequence_number = 0
        self.groups: list[tuple[list[str], list[str]]] = []
        for key, text in schema.options.items():
            if key.endswith(".sequence-group"):
                sequence = key.removeprefix("fields.").removesuffix(".sequence-group").split(",")
                self.groups.append((sequence, text.split(",")))
        removing = self.options.get("partial-update.remove-record-on-sequence-group", "")
        self.removing = [name for name in removing.split(",") if name]
        grouped = {name for _, columns in self.groups for name in columns}
        self.cells = {
            name: Cell(schema, name, function)
            for name in grouped
            if name not in schema.primary_keys and (function := _function_of(schema, name)) is not None
        }

    def _clear(self, record: Record) -> None:
        for name in self.schema.column_names:
            self.row[name] = None if self.schema.by_name[name].type.nullable else record[name]

    def add(self, record: Record) -> None:
        self.deleted = False
        if not is_retract(record):
            self.sequence_number = record[SEQUENCE]
            self._update(record)
            self.met_insert = self.filled = True
            return
        if not self.filled:
            for name in self.schema.column_names:
                if not self.schema.by_name[name].type.nullable:
                    self.row[name] = record[name]
            self.filled = True
        if self.schema.table_options.ignore_delete:
            return
        self.sequence_number = record[SEQUENCE]
        if self.groups:
            self._retract(record)
        elif self.options.get("partial-update.remove-record-on-delete") == "true":
            if record[KIND] == DELETE:
                self.deleted = True
                self._clear(record)
        else:
            raise CannotMerge

    def _is_newer(self, record: Record, sequence: list[str]) -> bool:
        return lowest_null([record[name] for name in sequence]) >= lowest_null([self.row[name] for name in sequence])

    def _update(self, record: Record) -> None:
        grouped = {name for sequence, columns in self.groups for name in (*sequence, *columns)}
        for sequence, columns in self.groups:
            if all(record[name] is None for name in sequence):
                continue
            newer = self._is_newer(record, sequence)
            for name in columns:
                cell = self.cells.get(name)
                if cell is not None:
                    self.row[name] = (cell.agg if newer else cell.agg_reversed)(self.row[name], record[name])
                elif newer:
                    self.row[name] = record[name]
            if newer:
                self.row |= {name: record[name] for name in sequence}
        for name in self.schema.column_names:
            if name not in grouped and record[name] is not None:
                self.row[name] = record[name]

    def _retract(self, record: Record) -> None:
        for sequence, columns in self.groups:
            if all(record[name] is None for name in sequence):
                continue
            newer = self._is_newer(record, sequence)
            if newer and record[KIND] == DELETE and set(sequence) & set(self.removing):
                self.deleted = True
                self._clear(record)
                return
            for name in columns:
                cell = self.cells.get(name)
                if cell is not None:
                    self.row[name] = cell.retract(self.row[name], record[name])
                elif newer:
                    self.row[name] = None
            if newer:
                self.row |= {name: record[name] for name in sequence}


def partial_update(records: Sequence[Record], schema: TableSchema) -> Record | None:
    state = PartialUpdate(schema)
    for record in records:
        state.add(record)
    kind = DELETE if state.deleted or not state.met_insert else INSERT
    return {**records[-1], **state.row, SEQUENCE: state.sequence_number, KIND: kind}


ENGINES: dict[str, Callable[[Sequence[Record], TableSchema], Record | None]] = {
    "deduplicate": deduplicate,
    "first-row": first_row,
    "aggregation": aggregation,
    "partial-update": partial_update,
}

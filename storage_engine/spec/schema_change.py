"""Schema evolution: changes as values, and ``apply``, which gives the next schema or refuses.

Spec: "Schema Evolution" of Apache Paimon. Columns are matched by field id, so that old files keep their meaning: an
id is never used again, and a change of type must be one that every old value survives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from storage_engine.errors import InvalidOption, InvalidSchema
from storage_engine.options import flag_of
from storage_engine.spec.column_options import renamed_options
from storage_engine.spec.schema import TableSchema, check_schema, number_new_field
from storage_engine.spec.type_casts import is_lossless_cast
from storage_engine.spec.types import DataField, DataType, TypeRoot

ColumnPath: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where a column goes: ``first``, ``last``, or ``after`` / ``before`` the column ``reference``."""

    where: Literal["first", "last", "after", "before"]
    reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddColumn:
    """A new nullable column, at the end if ``position`` is None; old rows read null."""

    path: ColumnPath
    type: DataType
    comment: str | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropColumn:
    """A column goes; neither of the primary key nor of the partition key."""

    path: ColumnPath


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameColumn:
    """A column keeps its id under another name; not a partition column. Options that name it follow."""

    path: ColumnPath
    new_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateColumnType:
    """A wider type; not of a key column. ``keep_nullability``: whatever the new type says about NULL is ignored."""

    path: ColumnPath
    type: DataType
    keep_nullability: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateColumnNullability:
    """NOT NULL becomes nullable; the other way needs ``'alter-column-null-to-not-null.disabled' = 'false'``."""

    path: ColumnPath
    nullable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateColumnComment:
    """Another comment, or none."""

    path: ColumnPath
    comment: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateColumnDefault:
    """What rows that give no value are written with from now on, as text; None for NULL."""

    path: ColumnPath
    default_value: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveColumn:
    """Another place among the columns."""

    name: str
    position: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOption:
    """An option is set."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveOption:
    """An option falls back to its default; one that is not set is fine."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateComment:
    """Another comment of the table, or none."""

    comment: str | None


SchemaChange: TypeAlias = (
    AddColumn
    | DropColumn
    | RenameColumn
    | UpdateColumnType
    | UpdateColumnNullability
    | UpdateColumnComment
    | UpdateColumnDefault
    | MoveColumn
    | SetOption
    | RemoveOption
    | UpdateComment
)

IMMUTABLE_OPTIONS = frozenset(
    {
        "bucket-key",
        "bucket-function.type",
        "merge-engine",
        "ignore-delete",
        "ignore-update-before",
        "aggregation.remove-record-on-delete",
        "partial-update.remove-record-on-delete",
        "partial-update.remove-record-on-sequence-group",
        "rowkind.field",
        "force-lookup",
        "data-file.path-directory",
        "index-file-in-data-file-dir",
    }
)
_NEVER_IN_OPTIONS = frozenset({"primary-key", "partition", "path"})
_NULL_TO_NOT_NULL_DISABLED = "alter-column-null-to-not-null.disabled"


def apply(
    schema: TableSchema, changes: Sequence[SchemaChange], *, has_snapshots: bool, time_millis: int
) -> TableSchema:
    """The schema after some changes, in order; its id is the next one.

    ``has_snapshots`` makes the options that decide about files already written immutable.
    Raises InvalidSchema or InvalidOption.
    """
    changed = schema
    for change in changes:
        _check_option_change(changed, change, has_snapshots=has_snapshots)
        changed = _APPLY[type(change)](changed, change)
    changed = replace(changed, id=schema.id + 1, time_millis=time_millis)
    check_schema(changed)
    return changed


def _check_option_change(schema: TableSchema, change: SchemaChange, *, has_snapshots: bool) -> None:
    if not isinstance(change, SetOption | RemoveOption):
        return
    if change.key in _NEVER_IN_OPTIONS:
        raise InvalidOption(f"option {change.key!r} cannot be altered: create another table")
    if not has_snapshots:
        return
    value = change.value if isinstance(change, SetOption) else None
    if change.key in IMMUTABLE_OPTIONS and schema.options.get(change.key) != value:
        raise InvalidOption(f"option {change.key!r} cannot be altered once the table has data: create another table")
    if change.key == "bucket":
        _check_bucket_change(schema.options.get("bucket", "-1").strip(), value)


def _check_bucket_change(old: str, new: str | None) -> None:
    fixed = not old.startswith("-") and new is not None and not new.strip().startswith("-")
    if old != (new or "").strip() and not fixed:
        raise InvalidOption(
            f"option 'bucket' cannot be altered from {old} to {new or 'its default'}: only from one fixed number to another"
        )


def _add(schema: TableSchema, change: AddColumn) -> TableSchema:
    if not change.type.nullable:
        raise InvalidSchema(
            f"column {_dotted(change.path)}: a column that is added must be nullable, since old rows have no value for it"
        )
    named = DataField(id=0, name=change.path[-1], type=change.type, description=change.comment)
    column, highest = number_new_field(named, schema.highest_field_id)

    def add(siblings: tuple[DataField, ...]) -> tuple[DataField, ...]:
        if any(sibling.name == column.name for sibling in siblings):
            raise InvalidSchema(f"column {_dotted(change.path)} exists already")
        return _placed(siblings, column, change.position or Position(where="last"))

    return replace(schema, fields=_in_parent(schema.fields, change.path, add), highest_field_id=highest)


def _drop(schema: TableSchema, change: DropColumn) -> TableSchema:
    _refuse_keys(schema, change.path, "dropped", (*schema.primary_keys, *schema.partition_keys))

    def drop(siblings: tuple[DataField, ...]) -> tuple[DataField, ...]:
        column = _find(siblings, change.path)
        kept = tuple(sibling for sibling in siblings if sibling is not column)
        if not kept:
            raise InvalidSchema(f"column {_dotted(change.path)} is the last one: it cannot be dropped")
        return kept

    return replace(schema, fields=_in_parent(schema.fields, change.path, drop))


def _rename(schema: TableSchema, change: RenameColumn) -> TableSchema:
    _refuse_keys(schema, change.path, "renamed", schema.partition_keys)

    def rename(siblings: tuple[DataField, ...]) -> tuple[DataField, ...]:
        column = _find(siblings, change.path)
        if any(sibling.name == change.new_name for sibling in siblings):
            raise InvalidSchema(f"column {change.new_name!r} exists already: choose another name")
        return tuple(replace(column, name=change.new_name) if sibling is column else sibling for sibling in siblings)

    fields = _in_parent(schema.fields, change.path, rename)
    if len(change.path) > 1:
        return replace(schema, fields=fields)
    names = {change.path[0]: change.new_name}
    return replace(
        schema,
        fields=fields,
        primary_keys=tuple(names.get(name, name) for name in schema.primary_keys),
        options=renamed_options(schema.options, names),
    )


def _update_type(schema: TableSchema, change: UpdateColumnType) -> TableSchema:
    keys = (*schema.primary_keys, *schema.partition_keys)
    keeps_nullability = change.keep_nullability or (len(change.path) == 1 and change.path[0] in keys)

    def update(column: DataField) -> DataField:
        target = change.type.with_nullable(column.type.nullable) if keeps_nullability else change.type
        _check_nullability(schema, change.path, column.type, target)
        if target.with_nullable(True) == column.type.with_nullable(True):
            return replace(column, type=target)
        _refuse_keys(schema, change.path, "given another type", keys)
        if not is_lossless_cast(column.type, target):
            raise InvalidSchema(
                f"column {_dotted(change.path)}: {column.type.sql} cannot become {target.sql}, since values of old files"
                " could be lost; add a column of the new type instead"
            )
        return replace(column, type=target)

    return _with_column(schema, change.path, update)


def _update_nullability(schema: TableSchema, change: UpdateColumnNullability) -> TableSchema:
    if change.nullable:
        _refuse_keys(schema, change.path, "made nullable", schema.primary_keys)

    def update(column: DataField) -> DataField:
        target = column.type.with_nullable(change.nullable)
        _check_nullability(schema, change.path, column.type, target)
        return replace(column, type=target)

    return _with_column(schema, change.path, update)


def _update_column_comment(schema: TableSchema, change: UpdateColumnComment) -> TableSchema:
    return _with_column(schema, change.path, lambda column: replace(column, description=change.comment))


def _update_column_default(schema: TableSchema, change: UpdateColumnDefault) -> TableSchema:
    return _with_column(schema, change.path, lambda column: replace(column, default_value=change.default_value))


def _move(schema: TableSchema, change: MoveColumn) -> TableSchema:
    column = _find(schema.fields, (change.name,))
    if change.position.reference == change.name:
        raise InvalidSchema(f"column {change.name!r} cannot be moved next to itself")
    others = tuple(other for other in schema.fields if other is not column)
    return replace(schema, fields=_placed(others, column, change.position))


def _set_option(schema: TableSchema, change: SetOption) -> TableSchema:
    return replace(schema, options={**schema.options, change.key: change.value})


def _remove_option(schema: TableSchema, change: RemoveOption) -> TableSchema:
    return replace(schema, options={key: value for key, value in schema.options.items() if key != change.key})


def _update_comment(schema: TableSchema, change: UpdateComment) -> TableSchema:
    return replace(schema, comment=change.comment)


_APPLY: Mapping[type[SchemaChange], Callable[[TableSchema, Any], TableSchema]] = {
    AddColumn: _add,
    DropColumn: _drop,
    RenameColumn: _rename,
    UpdateColumnType: _update_type,
    UpdateColumnNullability: _update_nullability,
    UpdateColumnComment: _update_column_comment,
    UpdateColumnDefault: _update_column_default,
    MoveColumn: _move,
    SetOption: _set_option,
    RemoveOption: _remove_option,
    UpdateComment: _update_comment,
}


def _dotted(path: ColumnPath) -> str:
    return repr(".".join(path))


def _find(siblings: Sequence[DataField], path: ColumnPath) -> DataField:
    for sibling in siblings:
        if sibling.name == path[-1]:
            return sibling
    known = ", ".join(sibling.name for sibling in siblings)
    raise InvalidSchema(f"there is no column {_dotted(path)}; columns: {known}")


def _refuse_keys(schema: TableSchema, path: ColumnPath, verb: str, keys: Sequence[str]) -> None:
    if len(path) == 1 and path[0] in keys:
        what = "partition key" if path[0] in schema.partition_keys else "primary key"
        raise InvalidSchema(f"column {path[0]!r} is part of the {what} and cannot be {verb}")


def _check_nullability(schema: TableSchema, path: ColumnPath, source: DataType, target: DataType) -> None:
    if source.nullable and not target.nullable and flag_of(schema.options, _NULL_TO_NOT_NULL_DISABLED, default=True):
        raise InvalidSchema(
            f"column {_dotted(path)} cannot become NOT NULL, since old rows may hold null; if none does, set the option"
            f" '{_NULL_TO_NOT_NULL_DISABLED}' to 'false' first"
        )


def _placed(siblings: tuple[DataField, ...], column: DataField, position: Position) -> tuple[DataField, ...]:
    if position.where == "first":
        return (column, *siblings)
    if position.where == "last":
        return (*siblings, column)
    reference = _find(siblings, (position.reference or "",))
    at = siblings.index(reference) + (position.where == "after")
    return (*siblings[:at], column, *siblings[at:])


def _with_column(schema: TableSchema, path: ColumnPath, update: Callable[[DataField], DataField]) -> TableSchema:
    def replaced(siblings: tuple[DataField, ...]) -> tuple[DataField, ...]:
        column = _find(siblings, path)
        return tuple(update(column) if sibling is column else sibling for sibling in siblings)

    return replace(schema, fields=_in_parent(schema.fields, path, replaced))


def _in_parent(
    siblings: tuple[DataField, ...],
    path: ColumnPath,
    change: Callable[[tuple[DataField, ...]], tuple[DataField, ...]],
) -> tuple[DataField, ...]:
    """The columns with ``change`` applied to those among which the last name of the path stands."""
    if len(path) == 1:
        return change(siblings)
    parent = _find(siblings, path[:1])
    changed = replace(parent, type=_in_type(parent.type, path[1:], change))
    return tuple(changed if sibling is parent else sibling for sibling in siblings)


def _in_type(
    data_type: DataType,
    path: ColumnPath,
    change: Callable[[tuple[DataField, ...]], tuple[DataField, ...]],
) -> DataType:
    """A nested type with a part changed: ``element`` of an ARRAY, ``value`` of a MAP, or a field of a ROW."""
    if data_type.root is TypeRoot.ROW:
        return replace(data_type, fields=_in_parent(data_type.fields, path, change))
    if data_type.root is TypeRoot.ARRAY and path[0] == "element" and data_type.element is not None:
        return replace(data_type, element=_in_part("element", data_type.element, path, change))
    if data_type.root is TypeRoot.MAP and path[0] == "value" and data_type.value is not None:
        return replace(data_type, value=_in_part("value", data_type.value, path, change))
    raise InvalidSchema(f"type {data_type.sql} has no part {path[0]!r}")


def _in_part(
    name: str, part: DataType, path: ColumnPath, change: Callable[[tuple[DataField, ...]], tuple[DataField, ...]]
) -> DataType:
    if len(path) > 1:
        return _in_type(part, path[1:], change)
    (changed,) = change((DataField(id=0, name=name, type=part),))
    if changed.name != name:
        raise InvalidSchema(f"the {name} of an ARRAY or MAP has no name of its own: it cannot be renamed")
    return changed.type

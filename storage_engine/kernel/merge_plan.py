"""How rows of one key become one: the options of a table as a frozen plan, checked once.

Spec: "Merge Engine" and "Sequence & Rowkind" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from storage_engine.errors import InvalidOption, Unsupported
from storage_engine.kernel.aggregators import (
    AGGREGATORS,
    ALIASES,
    LAST_NON_NULL_VALUE,
    LAST_VALUE,
    can_retract,
)
from storage_engine.kernel.column_rule import ColumnRule
from storage_engine.options import ChangelogProducer, MergeEngine, parse_bool
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND, TableSchema
from storage_engine.spec.types import FLOAT_ROOTS, NESTED_ROOTS, DataField

_IGNORE_DELETE_KEYS = (
    "ignore-delete",
    "first-row.ignore-delete",
    "deduplicate.ignore-delete",
    "partial-update.ignore-delete",
)
_REMOVE_ON_DELETE = {
    MergeEngine.AGGREGATION: "aggregation.remove-record-on-delete",
    MergeEngine.PARTIAL_UPDATE: "partial-update.remove-record-on-delete",
}
_REMOVE_ON_GROUP = "partial-update.remove-record-on-sequence-group"
_DELETE = 3
_DEFAULT_FUNCTION = "fields.default-aggregate-function"
_SUM = "sum"


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceGroup:
    """Columns of a partial-update table that follow their own sequence columns.

    ``removes_record``: a -D that is not older in this group removes the whole row.
    """

    sequence: tuple[str, ...]
    columns: tuple[str, ...]
    removes_record: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MergePlan:
    """How a table's rows merge.

    ``keys`` is the trimmed primary key, ``rules`` the aggregate function of each column that has one (all value columns of
    aggregation tables), ``not_null`` the value columns that a delete cannot clear.
    """

    engine: MergeEngine
    keys: tuple[str, ...]
    columns: tuple[str, ...]
    sequence: tuple[str, ...] = ()
    rules: Mapping[str, ColumnRule]
    groups: tuple[SequenceGroup, ...] = ()
    not_null: frozenset[str] = frozenset()
    ignore_delete: bool = False
    remove_on_delete: bool = False
    changelog_producer: ChangelogProducer = ChangelogProducer.NONE
    row_deduplicate: bool = False
    row_deduplicate_ignore: frozenset[str] = frozenset()

    @staticmethod
    def of(schema: TableSchema) -> MergePlan:
        """The plan of a primary-key table.

        Raises InvalidOption for what Paimon refuses, Unsupported for what is not done here or what 1.3.1 reads wrong.
        """
        options = schema.table_options
        raw = schema.options
        _check_sequence(schema)
        groups = _sequence_groups(schema) if options.merge_engine is MergeEngine.PARTIAL_UPDATE else ()
        plan = MergePlan(
            engine=options.merge_engine,
            keys=schema.trimmed_primary_keys,
            columns=schema.column_names,
            sequence=options.sequence_field,
            rules=_rules(schema, groups),
            groups=groups,
            not_null=frozenset(field.name for field in schema.fields if not field.type.nullable),
            ignore_delete=any(_flag(raw, key) for key in _IGNORE_DELETE_KEYS),
            remove_on_delete=_flag(raw, _REMOVE_ON_DELETE.get(options.merge_engine, "")),
            changelog_producer=options.changelog_producer,
            row_deduplicate=options.row_deduplicate,
            row_deduplicate_ignore=frozenset(options.row_deduplicate_ignore_fields),
        )
        _check_deletes(plan)
        return plan

    @property
    def is_last_wins(self) -> bool:
        """Whether the latest written record of a key is its row: nothing of an older one can survive it."""
        return self.engine is MergeEngine.DEDUPLICATE and not self.sequence and not self.ignore_delete

    @property
    def keeps_lone_adds(self) -> bool:
        """Whether merging a single add leaves its values as they are."""
        return not self.groups and not any(rule.distinct for rule in self.rules.values())

    @property
    def only_adds_up(self) -> bool:
        """Whether all values are exact sums: two changes of a key that cancel each other leave no trace in its row."""
        return (
            self.engine is MergeEngine.AGGREGATION
            and not self.remove_on_delete
            and all(
                rule.function == _SUM and not rule.ignore_retract and rule.type.root not in FLOAT_ROOTS
                for rule in self.rules.values()
            )
        )

    def columns_needed(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Table columns that must be loaded so that ``columns`` merge right, in schema order.

        ``_SEQUENCE_NUMBER`` and ``_VALUE_KIND`` are always needed too.
        """
        wanted = {*columns, *self.keys, *self.sequence}
        for group in self.groups:
            if group.removes_record or not wanted.isdisjoint((*group.sequence, *group.columns)):
                wanted |= set(group.sequence)
        return tuple(name for name in self.columns if name in wanted)

    def restricted(self, columns: Sequence[str]) -> MergePlan:
        """The plan for frames that hold ``columns_needed(columns)`` alone."""
        needed = self.columns_needed(columns)
        return replace(
            self,
            columns=needed,
            rules={name: rule for name, rule in self.rules.items() if name in needed},
            groups=tuple(
                replace(group, columns=tuple(name for name in group.columns if name in needed))
                for group in self.groups
                if set(group.sequence) <= set(needed)
            ),
        )

    def refusal(self, kind: int) -> str | None:
        """Why rows of a retract kind (1: -U, 3: -D) can never be merged; None if they can."""
        if self.ignore_delete or self.engine is MergeEngine.DEDUPLICATE:
            return None
        if self.engine is MergeEngine.FIRST_ROW:
            return "cannot be merged by merge engine first-row: set option 'ignore-delete'"
        if self.remove_on_delete and (kind == _DELETE or self.engine is MergeEngine.PARTIAL_UPDATE):
            return None
        if self.engine is MergeEngine.PARTIAL_UPDATE and not self.groups:
            return (
                "cannot be merged by merge engine partial-update: set option 'ignore-delete',"
                " 'partial-update.remove-record-on-delete' or a sequence group"
            )
        for rule in self.rules.values():
            if not can_retract(rule):
                return (
                    f"cannot be taken back from column {rule.name!r} with aggregate function {rule.function!r}:"
                    f" set option 'fields.{rule.name}.ignore-retract'"
                )
        return None

    def keeps_input(self, rows: pl.DataFrame, merged: pl.DataFrame) -> bool:
        """Whether a merge changed nothing: the same keys in the same order, with equal values and kinds.

        ``rows`` are the (sorted, distinct) rows that went in; further columns of it are not looked at.
        """
        if rows.height != merged.height:
            return False
        system = [SEQUENCE_NUMBER, VALUE_KIND]
        compared = [*self.keys, *system] if self.is_last_wins else [*self.columns, *system]
        return rows[compared].equals(merged[compared])


def _flag(options: Mapping[str, str], key: str) -> bool:
    try:
        return parse_bool(options.get(key, "false"))
    except ValueError as cause:
        raise InvalidOption(f"option {key!r} is {options[key]!r}: {cause}") from cause


def _check_sequence(schema: TableSchema) -> None:
    options, raw = schema.table_options, schema.options
    if raw.get("sequence.field.sort-order", "ascending").strip().lower() != "ascending":
        raise Unsupported(
            "option 'sequence.field.sort-order' is 'descending': Paimon 1.3.1 merges such tables in either order,"
            " by chance; negate the sequence column instead"
        )
    _check_columns(schema, "sequence.field", options.sequence_field)
    if len(set(options.sequence_field)) < len(options.sequence_field):
        raise InvalidOption("option 'sequence.field' names a column twice")
    for name in options.sequence_field:
        _check_orders(schema, "sequence.field", name)
    if options.sequence_field and options.merge_engine is MergeEngine.FIRST_ROW:
        raise InvalidOption("option 'sequence.field' cannot go with merge engine first-row")
    if options.sequence_field and schema.is_cross_partition:
        raise InvalidOption(
            "option 'sequence.field' needs a primary key that holds all partition columns,"
            " since a row could otherwise move between partitions"
        )


def _check_columns(schema: TableSchema, key: str, names: Iterable[str]) -> None:
    for name in names:
        if name not in schema.by_name:
            raise InvalidOption(
                f"option {key!r} names {name!r}, which is not a column; columns: {', '.join(schema.column_names)}"
            )


def _check_orders(schema: TableSchema, key: str, name: str) -> None:
    root = schema.by_name[name].type.root
    if root in NESTED_ROOTS or root in FLOAT_ROOTS:
        raise Unsupported(
            f"option {key!r} names {name!r} of type {schema.by_name[name].type.sql}, which has no safe order;"
            " use an integer, decimal, date, timestamp or string column"
        )


def _sequence_groups(schema: TableSchema) -> tuple[SequenceGroup, ...]:
    removing = tuple(name.strip() for name in schema.options.get(_REMOVE_ON_GROUP, "").split(",") if name.strip())
    groups: list[SequenceGroup] = []
    owner: dict[str, str] = {}
    for key, text in schema.options.items():
        if not (key.startswith("fields.") and key.endswith(".sequence-group")):
            continue
        sequence = tuple(
            name.strip() for name in key.removeprefix("fields.").removesuffix(".sequence-group").split(",")
        )
        columns = tuple(name.strip() for name in text.split(",") if name.strip())
        _check_columns(schema, key, (*sequence, *columns))
        for name in sequence:
            _check_orders(schema, key, name)
        for name in {*columns, *sequence}:
            if name in owner:
                raise InvalidOption(f"column {name!r} stands in two sequence groups: {owner[name]!r} and {key!r}")
            owner[name] = key
        groups.append(
            SequenceGroup(
                sequence=sequence,
                columns=tuple(name for name in columns if name not in sequence),
                removes_record=not set(removing).isdisjoint(sequence),
            )
        )
    stray = set(removing) - {name for group in groups for name in group.sequence}
    if stray:
        raise InvalidOption(f"option {_REMOVE_ON_GROUP!r} names {min(stray)!r}, which is no sequence column of a group")
    return tuple(groups)


def _rules(schema: TableSchema, groups: tuple[SequenceGroup, ...]) -> dict[str, ColumnRule]:
    match schema.table_options.merge_engine:
        case MergeEngine.AGGREGATION:
            return _aggregation_rules(schema)
        case MergeEngine.PARTIAL_UPDATE:
            return _partial_update_rules(schema, groups)
        case _:
            return {}


def _aggregation_rules(schema: TableSchema) -> dict[str, ColumnRule]:
    rules = {}
    for field in schema.fields:
        if field.name in schema.primary_keys:
            continue
        if field.name in schema.table_options.sequence_field:
            function = LAST_VALUE
        else:
            function = _function_name(schema, field.name) or LAST_NON_NULL_VALUE
        rules[field.name] = _rule(schema, field, function)
    return rules


def _partial_update_rules(schema: TableSchema, groups: tuple[SequenceGroup, ...]) -> dict[str, ColumnRule]:
    sequence = {name for group in groups for name in group.sequence}
    grouped = {name for group in groups for name in group.columns}
    rules = {}
    for field in schema.fields:
        name = field.name
        function = _function_name(schema, name)
        if function is None or name in sequence or name in schema.primary_keys:
            continue
        if name not in grouped and function != LAST_NON_NULL_VALUE:
            raise InvalidOption(
                f"column {name!r} has aggregate function {function!r} but stands in no sequence group;"
                f" add it to an option 'fields.<sequence column>.sequence-group'"
            )
        if name in grouped:
            rules[name] = _rule(schema, field, function)
            if AGGREGATORS[function].needs_state or rules[name].count_limit is not None:
                raise Unsupported(
                    f"column {name!r}: aggregate function {function!r} inside a sequence group is not done here"
                )
    return rules


def _function_name(schema: TableSchema, name: str) -> str | None:
    function = schema.options.get(f"fields.{name}.aggregate-function", schema.options.get(_DEFAULT_FUNCTION))
    return None if function is None else ALIASES.get(function.strip(), function.strip())


def _rule(schema: TableSchema, field: DataField, function: str) -> ColumnRule:
    options, prefix = schema.options, f"fields.{field.name}."
    aggregator = AGGREGATORS.get(function)
    if aggregator is None:
        raise InvalidOption(
            f"column {field.name!r}: no aggregate function {function!r}; known: {', '.join(sorted(AGGREGATORS))}"
        )
    if aggregator.roots is not None and field.type.root not in aggregator.roots:
        raise InvalidOption(
            f"column {field.name!r} of type {field.type.sql} cannot have aggregate function {function!r}"
        )
    nested_key = tuple(name.strip() for name in options.get(f"{prefix}nested-key", "").split(",") if name.strip())
    limit = options.get(f"{prefix}count-limit")
    if limit is not None and (not limit.strip().isdigit() or nested_key):
        raise Unsupported(
            f"option '{prefix}count-limit' is {limit!r}: done here only as a whole number without nested-key"
        )
    rule = ColumnRule(
        name=field.name,
        type=field.type,
        function=function,
        ignore_retract=_flag(options, f"{prefix}ignore-retract"),
        delimiter=options.get(f"{prefix}list-agg-delimiter", ","),
        distinct=_flag(options, f"{prefix}distinct"),
        nested_key=nested_key,
        count_limit=None if limit is None else int(limit),
    )
    if aggregator.check is not None:
        aggregator.check(rule)
    return rule


def _check_deletes(plan: MergePlan) -> None:
    """Options that say different things about deletes."""
    chosen = []
    if plan.ignore_delete:
        chosen.append("ignore-delete")
    if plan.remove_on_delete:
        chosen.append(_REMOVE_ON_DELETE[plan.engine])
    if plan.engine is MergeEngine.PARTIAL_UPDATE:
        if any(group.removes_record for group in plan.groups):
            chosen.append(_REMOVE_ON_GROUP)
        elif plan.remove_on_delete and plan.groups:
            chosen.append("fields.*.sequence-group")
        if len(chosen) > 1:
            raise InvalidOption(f"options {chosen[0]!r} and {chosen[1]!r} contradict each other: keep one")
    if plan.engine is MergeEngine.AGGREGATION and plan.remove_on_delete:
        ignoring = [name for name, rule in plan.rules.items() if rule.ignore_retract]
        if ignoring:
            raise InvalidOption(
                f"options 'aggregation.remove-record-on-delete' and 'fields.{ignoring[0]}.ignore-retract'"
                " contradict each other: keep one"
            )

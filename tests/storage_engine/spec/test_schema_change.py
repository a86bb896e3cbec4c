"""Schema evolution: what each change does, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from storage_engine.errors import InvalidInput, InvalidOption, InvalidSchema
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.spec.schema_change import (
    IMMUTABLE_OPTIONS,
    AddColumn,
    DropColumn,
    MoveColumn,
    Position,
    RemoveOption,
    RenameColumn,
    SchemaChange,
    SetOption,
    UpdateColumnComment,
    UpdateColumnNullability,
    UpdateColumnType,
    UpdateComment,
    apply,
)
from storage_engine.spec.types import DataField, parse_type

COLUMNS = {
    "dt": "STRING",
    "id": "STRING",
    "a": "INT",
    "b": "DECIMAL(10, 2) NOT NULL",
    "r": "ROW<x INT, y ROW<z STRING>>",
    "l": "ARRAY<ROW<e INT>>",
    "m": "MAP<STRING, ARRAY<INT>>",
}


def table(options: Mapping[str, str] | None = None) -> TableSchema:
    columns = [DataField(id=0, name=name, type=parse_type(text)) for name, text in COLUMNS.items()]
    return create_schema(columns, primary_keys=["dt", "id"], partition_keys=["dt"], options=options)


def changed(*changes: SchemaChange, schema: TableSchema | None = None, has_snapshots: bool = True) -> TableSchema:
    return apply(schema or table(), changes, has_snapshots=has_snapshots, time_millis=7)


def names(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.fields]


def test_a_change_makes_the_next_schema():
    after = changed(UpdateComment(comment="c"))
    assert (after.id, after.time_millis, after.comment) == (1, 7, "c")
    assert after.fields == table().fields


def test_a_column_is_added_with_an_id_that_was_never_used():
    before = table()
    after = changed(DropColumn(path=("a",)), AddColumn(path=("a",), type=parse_type("INT"), comment="again"))
    assert after.by_name["a"].id == before.highest_field_id + 1
    assert after.highest_field_id == before.highest_field_id + 1
    assert after.by_name["a"].description == "again"


def test_the_fields_of_an_added_row_are_numbered_too():
    before = table()
    after = changed(AddColumn(path=("n",), type=parse_type("ROW<p INT, q ROW<s INT>>")))
    top = before.highest_field_id + 1
    assert after.by_name["n"].id == top
    assert [field.id for field in after.by_name["n"].type.fields] == [top + 1, top + 2]
    assert after.highest_field_id == top + 3


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (None, ["dt", "id", "a", "b", "r", "l", "m", "n"]),
        (Position(where="first"), ["n", "dt", "id", "a", "b", "r", "l", "m"]),
        (Position(where="last"), ["dt", "id", "a", "b", "r", "l", "m", "n"]),
        (Position(where="after", reference="a"), ["dt", "id", "a", "n", "b", "r", "l", "m"]),
        (Position(where="before", reference="a"), ["dt", "id", "n", "a", "b", "r", "l", "m"]),
    ],
)
def test_a_column_goes_where_it_is_told(position: Position | None, expected: list[str]):
    assert names(changed(AddColumn(path=("n",), type=parse_type("INT"), position=position))) == expected


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Position(where="first"), ["a", "dt", "id", "b", "r", "l", "m"]),
        (Position(where="last"), ["dt", "id", "b", "r", "l", "m", "a"]),
        (Position(where="after", reference="r"), ["dt", "id", "b", "r", "a", "l", "m"]),
        (Position(where="before", reference="dt"), ["a", "dt", "id", "b", "r", "l", "m"]),
    ],
)
def test_a_column_is_moved_and_keeps_its_id(position: Position, expected: list[str]):
    after = changed(MoveColumn(name="a", position=position))
    assert names(after) == expected
    assert after.by_name["a"] == table().by_name["a"]


def test_nested_fields_are_added_dropped_renamed_and_widened():
    after = changed(
        AddColumn(path=("r", "y", "w"), type=parse_type("INT"), position=Position(where="first")),
        RenameColumn(path=("r", "x"), new_name="v"),
        UpdateColumnType(path=("l", "element", "e"), type=parse_type("BIGINT")),
        UpdateColumnType(path=("m", "value", "element"), type=parse_type("BIGINT")),
        UpdateColumnComment(path=("r", "y"), comment="inner"),
    )
    assert str(after.by_name["r"].type) == "ROW<`v` INT, `y` ROW<`w` INT, `z` STRING>>"
    assert str(after.by_name["l"].type) == "ARRAY<ROW<`e` BIGINT>>"
    assert str(after.by_name["m"].type) == "MAP<STRING, ARRAY<BIGINT>>"
    assert after.by_name["r"].type.fields[0].id == table().by_name["r"].type.fields[0].id
    dropped = changed(DropColumn(path=("r", "y")), schema=after)
    assert str(dropped.by_name["r"].type) == "ROW<`v` INT>"


def test_a_type_widens_and_says_what_it_says_about_null():
    after = changed(
        UpdateColumnType(path=("a",), type=parse_type("BIGINT")),
        UpdateColumnType(path=("b",), type=parse_type("DECIMAL(20, 4)"), keep_nullability=True),
    )
    assert (str(after.by_name["a"].type), str(after.by_name["b"].type)) == ("BIGINT", "DECIMAL(20, 4) NOT NULL")
    assert str(changed(UpdateColumnNullability(path=("b",), nullable=True)).by_name["b"].type) == "DECIMAL(10, 2)"


def test_a_key_column_may_be_given_the_type_it_has():
    assert changed(UpdateColumnType(path=("id",), type=parse_type("STRING"))).fields == table().fields


def test_nullable_becomes_not_null_only_if_the_table_says_so():
    change = UpdateColumnNullability(path=("a",), nullable=False)
    with pytest.raises(InvalidSchema, match=r"alter-column-null-to-not-null.disabled"):
        changed(change)
    schema = table({"alter-column-null-to-not-null.disabled": "false"})
    assert not changed(change, schema=schema).by_name["a"].type.nullable


def test_a_renamed_column_is_renamed_in_the_key_and_in_options():
    options = {
        "bucket": "2",
        "bucket-key": "id",
        "sequence.field": "a, b",
        "fields.a.aggregate-function": "sum",
        "fields.a,b.sequence-group": "r,a",
        "fields.default-aggregate-function": "a",
        "comment.of.a": "a",
    }
    after = changed(
        RenameColumn(path=("a",), new_name="A"), RenameColumn(path=("id",), new_name="key"), schema=table(options)
    )
    assert after.primary_keys == ("dt", "key")
    assert after.options == {
        "bucket": "2",
        "bucket-key": "key",
        "sequence.field": "A,b",
        "fields.A.aggregate-function": "sum",
        "fields.A,b.sequence-group": "r,A",
        "fields.default-aggregate-function": "a",
        "comment.of.a": "a",
    }


def test_options_are_set_and_reset():
    after = changed(SetOption(key="a", value="1"), SetOption(key="b", value="2"), RemoveOption(key="a"))
    assert after.options == {"b": "2"}


@pytest.mark.parametrize("key", sorted(IMMUTABLE_OPTIONS))
def test_options_about_data_are_fixed_once_there_is_data(key: str):
    with pytest.raises(InvalidOption, match="cannot be altered once the table has data"):
        changed(SetOption(key=key, value="x"))
    with pytest.raises(InvalidOption, match="cannot be altered once the table has data"):
        changed(RemoveOption(key=key), schema=table({key: "x"}))
    assert changed(SetOption(key=key, value="x"), has_snapshots=False).options == {key: "x"}
    assert changed(SetOption(key=key, value="x"), schema=table({key: "x"})).options == {key: "x"}


@pytest.mark.parametrize(
    ("old", "new", "is_allowed"),
    [
        ("2", "4", True),
        ("2", "2", True),
        ("2", "-1", False),
        (None, "4", False),
        ("-2", "4", False),
        ("2", None, False),
    ],
)
def test_buckets_change_from_one_fixed_number_to_another(old: str | None, new: str | None, is_allowed: bool):
    schema = table({} if old is None else {"bucket": old})
    change = RemoveOption(key="bucket") if new is None else SetOption(key="bucket", value=new)
    if is_allowed:
        assert changed(change, schema=schema).options["bucket"] == new
    else:
        with pytest.raises(InvalidOption, match="option 'bucket' cannot be altered"):
            changed(change, schema=schema)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (AddColumn(path=("n",), type=parse_type("INT NOT NULL")), "must be nullable"),
        (AddColumn(path=("a",), type=parse_type("INT")), "column 'a' exists already"),
        (AddColumn(path=("r", "x"), type=parse_type("INT")), "column 'r.x' exists already"),
        (AddColumn(path=("q", "x"), type=parse_type("INT")), "there is no column 'q'; columns: dt, id"),
        (AddColumn(path=("a", "x"), type=parse_type("INT")), "type INT has no part 'x'"),
        (AddColumn(path=("_KEY_x",), type=parse_type("INT")), "reserved"),
        (
            AddColumn(path=("n",), type=parse_type("INT"), position=Position(where="after", reference="q")),
            "there is no column 'q'",
        ),
        (DropColumn(path=("q",)), "there is no column 'q'; columns: dt, id, a"),
        (DropColumn(path=("id",)), "'id' is part of the primary key and cannot be dropped"),
        (DropColumn(path=("dt",)), "'dt' is part of the partition key and cannot be dropped"),
        (DropColumn(path=("l", "element", "e")), "'l.element.e' is the last one"),
        (DropColumn(path=("l", "element")), "is the last one"),
        (RenameColumn(path=("dt",), new_name="d"), "'dt' is part of the partition key and cannot be renamed"),
        (RenameColumn(path=("a",), new_name="b"), "'b' exists already"),
        (RenameColumn(path=("l", "element"), new_name="b"), "no name of its own"),
        (RenameColumn(path=("m", "key"), new_name="b"), "has no part 'key'"),
        (UpdateColumnType(path=("id",), type=parse_type("BYTES")), "'id' is part of the primary key"),
        (UpdateColumnType(path=("a",), type=parse_type("SMALLINT")), "INT cannot become SMALLINT"),
        (UpdateColumnType(path=("a",), type=parse_type("STRING")), "INT cannot become STRING"),
        (UpdateColumnType(path=("a",), type=parse_type("BIGINT NOT NULL")), "cannot become NOT NULL"),
        (UpdateColumnNullability(path=("id",), nullable=True), "'id' is part of the primary key"),
        (MoveColumn(name="a", position=Position(where="after", reference="a")), "next to itself"),
        (MoveColumn(name="q", position=Position(where="first")), "there is no column 'q'"),
        (SetOption(key="path", value="x"), "'path' cannot be altered"),
        (SetOption(key="primary-key", value="a"), "'primary-key' cannot be altered"),
    ],
)
def test_unsafe_changes_are_refused(change: SchemaChange, message: str):
    with pytest.raises(InvalidInput, match=message.replace(".", r"\.")):
        changed(change)

"""Schema files: one winner a number, and a cache that does not outlive a replacement."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.spec.schema import TableSchema, create_schema
from storage_engine.spec.types import DataField, parse_type
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths
from storage_engine.store.schemas import SchemaStore


def schema(schema_id: int, comment: str = "") -> TableSchema:
    created = create_schema([DataField(id=0, name="k", type=parse_type("INT"))], primary_keys=["k"])
    return replace(created, id=schema_id, comment=comment)


@pytest.fixture
def place() -> tuple[FileIO, TablePaths]:
    io, root = FileIO.from_url(f"memory://{uuid.uuid4()}")
    return io, TablePaths(root)


def test_schemas_are_created_once(place: tuple[FileIO, TablePaths]) -> None:
    store = SchemaStore(*place)
    assert store.latest() is None
    assert store.try_create(schema(0))
    assert store.try_create(schema(1))
    assert not store.try_create(schema(1, "too late"))
    other = SchemaStore(*place)
    assert other.latest() == schema(1)
    assert other.get(0) == schema(0)
    assert other.ids() == [0, 1]


def test_a_schema_that_is_not_there(place: tuple[FileIO, TablePaths]) -> None:
    with pytest.raises(FileMissing, match="schema-3"):
        SchemaStore(*place).get(3)


def test_schemas_that_others_replaced_are_noticed(place: tuple[FileIO, TablePaths]) -> None:
    ours, theirs = SchemaStore(*place), SchemaStore(*place)
    for schema_id in range(3):
        ours.try_create(schema(schema_id))
    theirs.delete(2)
    theirs.write(schema(1, "replaced"))
    assert ours.latest() == schema(1, "replaced")
    theirs.write(schema(1, "again"))
    assert ours.latest() == schema(1, "again")
    assert ours.get(1) == schema(1, "again")
    theirs.write(schema(1, "and more follow"))
    theirs.try_create(schema(2))
    assert ours.latest() == schema(2)
    assert ours.get(1) == schema(1, "and more follow")


@pytest.mark.parametrize("text", [b"", b"{", b"[]", schema(7).to_json().encode(), b"[" * 100_000], ids=range(5))
def test_a_damaged_schema_is_a_clear_error(place: tuple[FileIO, TablePaths], text: bytes) -> None:
    io, paths = place
    io.write_new(paths.schema_file(0), text)
    with pytest.raises(CorruptFile, match="schema-0"):
        SchemaStore(*place).latest()

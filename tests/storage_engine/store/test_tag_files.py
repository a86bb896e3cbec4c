"""Tag files and consumer files."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from pathlib import Path

import pytest

from storage_engine.errors import AlreadyExists, CorruptFile, InvalidInput, TagNotFound
from storage_engine.spec.snapshot import CommitKind, Snapshot
from storage_engine.store.consumers import ConsumerStore
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths
from storage_engine.store.tags import Tag, TagStore

GOLDEN = (Path(__file__).parents[2] / "golden" / "tag_with_time_to_live.json").read_bytes()


def snapshot(snapshot_id: int) -> Snapshot:
    return Snapshot(
        id=snapshot_id,
        schema_id=0,
        base_manifest_list="manifest-list-a-0",
        delta_manifest_list="manifest-list-a-1",
        commit_user="u",
        commit_identifier=1,
        commit_kind=CommitKind.APPEND,
        time_millis=1,
        total_record_count=1,
        delta_record_count=1,
    )


@pytest.fixture
def place() -> tuple[FileIO, TablePaths]:
    io, root = FileIO.from_url(f"memory://{uuid.uuid4()}")
    return io, TablePaths(root)


def test_tags_name_snapshots(place: tuple[FileIO, TablePaths]) -> None:
    tags = TagStore(*place)
    tags.create("b", snapshot(1))
    tags.create("a", snapshot(2))
    assert tags.get("a") == snapshot(2)
    assert tags.names() == ["a", "b"]
    assert [tag.name for tag in tags.list()] == ["b", "a"], "by snapshot"
    assert tags.exists("a")
    tags.delete("a")
    assert not tags.exists("a")


def test_a_tag_without_time_to_live_is_the_snapshot_alone(place: tuple[FileIO, TablePaths]) -> None:
    io, paths = place
    TagStore(*place).create("a", snapshot(1))
    assert io.read_bytes(paths.tag_file("a")) == snapshot(1).to_json().encode()


def test_a_tag_of_paimon_with_time_to_live_is_read_and_written() -> None:
    tag = Tag.from_json(GOLDEN, name="t", path="x")
    assert tag.create_time == datetime(2026, 11, 23, 9, 20, 10, 599128)
    assert tag.time_retained_ms == 86_400_000
    assert not tag.is_expired(datetime(2026, 11, 24, 9, 20, 10))
    assert tag.is_expired(datetime(2026, 11, 24, 9, 20, 11))
    ours, theirs = json.loads(tag.to_json()), json.loads(GOLDEN)
    assert theirs["tagCreateTime"].pop() == 599128526
    assert ours["tagCreateTime"].pop() == 599128000, "Python's clock has microseconds"
    assert ours == theirs


def test_short_times_of_paimon_are_read() -> None:
    document = {**json.loads(GOLDEN), "tagCreateTime": [2026, 11, 23, 9, 20]}
    tag = Tag.from_json(json.dumps(document).encode(), name="t", path="x")
    assert tag.create_time == datetime(2026, 11, 23, 9, 20)


@pytest.mark.parametrize("change", [{"tagCreateTime": "2026-11-23"}, {"tagCreateTime": [1]}, {"tagTimeRetained": "x"}])
def test_a_damaged_tag_is_a_clear_error(change: dict[str, object]) -> None:
    with pytest.raises(CorruptFile, match="tag-file"):
        Tag.from_json(json.dumps({**json.loads(GOLDEN), **change}).encode(), name="t", path="tag-file")


def test_tags_exist_once(place: tuple[FileIO, TablePaths]) -> None:
    tags = TagStore(*place)
    tags.create("a", snapshot(1))
    with pytest.raises(AlreadyExists, match="'a'"):
        tags.create("a", snapshot(1))
    with pytest.raises(AlreadyExists, match="'a'"):
        tags.create("a", snapshot(2))
    assert tags.get("a") == snapshot(1)


def test_unknown_tags(place: tuple[FileIO, TablePaths]) -> None:
    tags = TagStore(*place)
    tags.create("known", snapshot(1))
    with pytest.raises(TagNotFound, match="tags: known"):
        tags.get("other")
    with pytest.raises(TagNotFound):
        tags.delete("other")
    for call in (tags.get, tags.exists, tags.delete):
        with pytest.raises(InvalidInput):
            call("../snapshot/snapshot-1")


def test_consumers(place: tuple[FileIO, TablePaths]) -> None:
    consumers = ConsumerStore(*place)
    assert consumers.list() == {}
    assert consumers.next_snapshot("c") is None
    consumers.write("c", 5)
    consumers.write("c", 7)
    consumers.write("d", 2)
    assert consumers.list() == {"c": 7, "d": 2}
    consumers.delete("c")
    consumers.delete("c")
    assert consumers.list() == {"d": 2}
    with pytest.raises(InvalidInput):
        consumers.write("a/b", 1)


def test_a_consumer_file_is_that_of_paimon(place: tuple[FileIO, TablePaths]) -> None:
    io, paths = place
    ConsumerStore(*place).write("c", 5)
    assert json.loads(io.read_bytes(paths.consumer_file("c"))) == {"nextSnapshot": 5}
    io.overwrite(paths.consumer_file("c"), b'{\n  "nextSnapshot" : 12\n}')
    assert ConsumerStore(*place).next_snapshot("c") == 12


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"nextSnapshot": "x"}', b"\xff", b"[" * 100_000], ids=range(6))
def test_a_damaged_consumer_is_a_clear_error(place: tuple[FileIO, TablePaths], text: bytes) -> None:
    io, paths = place
    io.overwrite(paths.consumer_file("c"), text)
    with pytest.raises(CorruptFile, match="consumer-c"):
        ConsumerStore(*place).list()

"""The stream is a pure function of its configuration, and holds what the case study is about."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from lakehouse_demo.business import RARE_CHANGES_MAX
from lakehouse_demo.events import StreamConfig, StreamSlice, stream_slices
from lakehouse_demo.malformed import KINDS
from lakehouse_demo.source_tables import SOURCE_TABLES

CONFIG = StreamConfig(seed=3, events=12_000, slices=12)


@pytest.fixture(scope="module")
def slices() -> list[StreamSlice]:
    return list(stream_slices(CONFIG))


@pytest.fixture(scope="module")
def events(slices: list[StreamSlice]) -> list[dict[str, Any]]:
    """The well-formed events in order of arrival, with the slice that they landed in."""
    return [
        json.loads(line) | {"slice": part.index}
        for part in slices
        for file in part.files
        for number, line in enumerate(file.content.splitlines(), start=1)
        if number not in file.malformed
    ]


def row(event: dict[str, Any]) -> dict[str, Any]:
    image: dict[str, Any] = event["after"] or event["before"]
    return image


def key(event: dict[str, Any]) -> tuple[str, ...]:
    return tuple(row(event)[column] for column in SOURCE_TABLES[event["source"]["table"]].key)


def test_the_same_configuration_gives_the_same_bytes(slices: list[StreamSlice]) -> None:
    assert list(stream_slices(CONFIG)) == slices


@pytest.mark.parametrize("other", [{"seed": 4}, {"events": 12_001}])
def test_another_seed_or_length_gives_another_stream(slices: list[StreamSlice], other: dict[str, Any]) -> None:
    assert next(stream_slices(replace(CONFIG, **other))) != slices[0]


def test_it_has_as_many_distinct_events_as_asked_for(slices: list[StreamSlice], events: list[dict[str, Any]]) -> None:
    numbers = Counter(event["source"]["seq"] for event in events)
    duplicates = sum(part.duplicates for part in slices)
    assert sorted(numbers) == list(range(1, CONFIG.events + 1))
    assert sum(numbers.values()) == CONFIG.events + duplicates
    assert sum((part.events for part in slices), Counter()).total() == CONFIG.events
    assert duplicates > CONFIG.events // 100


def test_file_names_of_a_table_grow_without_gaps(slices: list[StreamSlice]) -> None:
    names = defaultdict(list)
    for part in slices:
        for file in part.files:
            names[file.table].append(file.name)
    assert names.keys() == SOURCE_TABLES.keys()
    for table in names.values():
        assert table == [f"{number:06d}.jsonl" for number in range(1, len(table) + 1)]


def test_files_are_cut_at_the_number_of_lines_asked_for(slices: list[StreamSlice]) -> None:
    cut = [
        file
        for part in stream_slices(StreamConfig(seed=3, events=12_000, slices=12, file_lines_max=100))
        for file in part.files
    ]
    assert max(file.lines for file in cut) == 100
    for table in SOURCE_TABLES:
        whole = b"".join(file.content for part in slices for file in part.files if file.table == table)
        assert b"".join(file.content for file in cut if file.table == table) == whole


def test_the_snapshot_of_every_table_but_the_orders_lands_first(
    slices: list[StreamSlice], events: list[dict[str, Any]]
) -> None:
    snapshot = [event for event in events if event["op"] == "r"]
    assert {event["slice"] for event in snapshot} == {0}
    assert {event["source"]["table"] for event in snapshot} == SOURCE_TABLES.keys() - {"member_order"}
    assert [file.table for file in slices[0].files] == list(SOURCE_TABLES)


def test_change_times_of_a_key_grow_and_images_repeat_them(events: list[dict[str, Any]]) -> None:
    last: dict[tuple[Any, ...], dict[str, Any]] = {}
    for event in sorted(events, key=lambda event: event["source"]["seq"]):
        place = (event["source"]["table"], *key(event))
        known = last.get(place)
        if known is not None and known["source"]["seq"] != event["source"]["seq"]:
            assert event["source"]["ts_ms"] > known["source"]["ts_ms"]
            assert event["before"] == known["after"]
        if event["after"] and "event_time" in event["after"]:
            assert event["after"]["event_time"] == event["source"]["ts_ms"]
        last[place] = event


def test_events_come_hours_late_out_of_order_and_twice(slices: list[StreamSlice], events: list[dict[str, Any]]) -> None:
    assert sum(part.late for part in slices) > CONFIG.events // 100
    slices_of_event = defaultdict(set)
    newest: dict[tuple[Any, ...], tuple[int, int]] = {}
    overtaken_in_file = overtaken_by_earlier_file = 0
    for event in events:
        slices_of_event[event["source"]["seq"]].add(event["slice"])
        place, time = (event["source"]["table"], *key(event)), event["source"]["ts_ms"]
        known = newest.get(place)
        if known is not None and known[0] > time:
            overtaken_in_file += known[1] == event["slice"]
            overtaken_by_earlier_file += known[1] < event["slice"]
        newest[place] = max(known or (0, 0), (time, event["slice"]))
    assert overtaken_in_file > 10
    assert overtaken_by_earlier_file > 10
    assert sum(len(places) > 1 for places in slices_of_event.values()) > 10


def test_every_kind_of_change_occurs(events: list[dict[str, Any]]) -> None:
    kinds = Counter((event["source"]["table"], event["op"]) for event in events)
    changed = Counter(
        (event["source"]["table"], column)
        for event in events
        if event["op"] == "u"
        for column, value in event["after"].items()
        if event["before"][column] != value
    )
    for expected in [
        ("member_order", "c"),
        ("member_order", "u"),
        ("member_order", "d"),
        ("member", "c"),
        ("member", "u"),
        ("member", "d"),
    ]:
        assert kinds[expected] > 10, expected
    for column in ("amount", "quantity", "status", "agent_id"):
        assert changed["member_order", column] > 10, column
    for expected in [
        ("member", "city_id"),
        ("member", "phone"),
        ("agent", "team_id"),
        ("product", "score_weight"),
        ("product", "name"),
        ("team", "name"),
        ("sprint", "end_date"),
    ]:
        assert changed[expected] > 0, expected
    assert changed["member_order", "v_date"] == changed["member_order", "id"] == 0


def test_dimension_changes_do_not_grow_with_the_stream() -> None:
    long = StreamConfig(events=40_000, malformed=0, slices=1)
    updates = sum(
        count for (table, op), count in next(stream_slices(long)).events.items() if op == "u" and table[:6] != "member"
    )
    assert updates == RARE_CHANGES_MAX


def test_the_days_cross_a_month(events: list[dict[str, Any]]) -> None:
    days = {row(event)["v_date"] for event in events if event["source"]["table"] == "member_order"}
    assert days == {"2024-01-29", "2024-01-30", "2024-01-31", "2024-02-01", "2024-02-02", "2024-02-03"}


def test_references_hold_at_the_source_at_every_moment(events: list[dict[str, Any]]) -> None:
    present: dict[str, set[str]] = defaultdict(set)
    references = {
        "member_id": "member",
        "agent_id": "agent",
        "product_id": "product",
        "sprint_id": "sprint",
        "team_id": "team",
        "city_id": "city",
    }
    for event in sorted(events, key=lambda event: event["source"]["seq"]):
        table = event["source"]["table"]
        if event["op"] == "d":
            present[table].discard(row(event)["id"])
        else:
            present[table].add(row(event)["id"])
            for column in references.keys() & event["after"].keys():
                assert event["after"][column] in present[references[column]], event


def test_every_kind_of_malformed_line_is_sent(slices: list[StreamSlice]) -> None:
    lines = [
        file.content.split(b"\n")[number - 1] for part in slices for file in part.files for number in file.malformed
    ]
    assert len(lines) == CONFIG.malformed >= len(KINDS)
    assert all(lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": 10},
        {"events": 10**9},
        {"days": 0, "events": 0},
        {"slices": 0},
        {"malformed": -1},
        {"file_lines_max": 0},
    ],
)
def test_a_stream_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"events is|must be positive"):
        StreamConfig(**wrong)


@pytest.mark.parametrize("events", [200, 1_000])
def test_short_streams_are_whole(events: int) -> None:
    config = StreamConfig(events=events, start=date(2024, 12, 31), days=2, slices=3, malformed=5)
    files = [file for part in stream_slices(config) for file in part.files]
    well_formed = [
        json.loads(line)["source"]["seq"]
        for file in files
        for number, line in enumerate(file.content.splitlines(), start=1)
        if number not in file.malformed
    ]
    assert set(well_formed) == set(range(1, events + 1))
    assert sum(len(file.malformed) for file in files) == 5

"""The stream of the open UI goes on for ever, and stays a landing folder like any other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from lakehouse_demo import live
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.landing import landed_stream, write_landing
from lakehouse_demo.line_rules import ChangeEvent, MalformedLine, parse_line
from lakehouse_demo.live import land_endlessly, week
from lakehouse_demo.source_tables import SOURCE_TABLES
from lakehouse_demo.truth import recompute

FIRST = StreamConfig(events=600, slices=3, malformed=5)
WEEK_SLICES = 4


@pytest.fixture(autouse=True)
def short_weeks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "WEEK_EVENTS", 500)
    monkeypatch.setattr(live, "WEEK_SLICES", WEEK_SLICES)
    monkeypatch.setattr(live, "WEEK_MALFORMED", 3)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def land_some(folder: Path, slices: int) -> None:
    for _ in islice(land_endlessly(FIRST, folder), slices):
        pass


def test_weeks_follow_the_stream_that_landed_first(tmp_path: Path) -> None:
    write_landing(FIRST, tmp_path)
    assert landed_stream(tmp_path) == FIRST
    before = content(tmp_path)
    land_some(tmp_path, 2 * WEEK_SLICES)
    after = content(tmp_path)
    assert before.items() <= after.items()
    for table in SOURCE_TABLES:
        old, new = (
            {name for name in files if name.startswith(f"{table}/")} for files in (before, after.keys() - before)
        )
        assert max(old) < min(new, default=max(old) + "~")


def test_who_starts_again_goes_on_with_the_next_slice(tmp_path: Path) -> None:
    slices = FIRST.slices + 2 * WEEK_SLICES + 1
    land_some(tmp_path / "whole", slices)
    for _ in range(slices):
        land_some(tmp_path / "steps", 1)
    assert content(tmp_path / "steps") == content(tmp_path / "whole")


def events(folder: Path) -> Iterator[tuple[str, ChangeEvent]]:
    """Every event that landed, with its table."""
    for name, table in SOURCE_TABLES.items():
        for file in sorted((folder / name).glob("*.jsonl")):
            for line in file.read_bytes().split(b"\n"):
                with suppress(MalformedLine):
                    yield name, parse_line(line, table)


def test_no_row_has_two_states_of_one_moment(tmp_path: Path) -> None:
    """Else the last state of a row would depend on the order of arrival."""
    land_some(tmp_path, FIRST.slices + 2 * WEEK_SLICES)
    states: dict[tuple[object, ...], set[str]] = {}
    for table, event in events(tmp_path):
        states.setdefault((table, event.key, event.event_time), set()).add(f"{event.op} {event.row}")
    assert len(states) > 1_000
    assert [moment for moment, found in states.items() if len(found) > 1] == []


def test_the_figures_take_in_every_week(tmp_path: Path) -> None:
    land_some(tmp_path, FIRST.slices + 2 * WEEK_SLICES)
    days = {row["v_date"] for row in recompute(tmp_path).sprint_performance}
    for number in (1, 2):
        assert week(FIRST, number).start.isoformat() in days
    assert len(days) == FIRST.days + 2 * (live.WEEK_DAYS - 1)


def test_another_stream_does_not_go_on(tmp_path: Path) -> None:
    write_landing(StreamConfig(events=900, seed=99), tmp_path)
    with pytest.raises(ValueError, match="another stream"):
        land_some(tmp_path, 1)


def test_a_damaged_configuration_is_told(tmp_path: Path) -> None:
    (tmp_path / "stream.json").write_text('{"seed": 1, "start": "some day"}')
    with pytest.raises(ValueError, match=r"stream\.json"):
        landed_stream(tmp_path)

"""An endless stream for the open UI: the embedded stream, then week after week of the same business.

Each week is a seeded stream of six days that starts a day after the one before, under file names that sort after all
earlier ones. Its orders are new ones; its first events tell members, agents and products anew, as changes of those that
are there. So all that holds of a landing folder goes on to hold: whoever recomputes it finds the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Final

from lakehouse_demo.events import StreamConfig, StreamSlice
from lakehouse_demo.landing import CONFIG_FILE, land

WEEK_DAYS: Final = 7
WEEK_EVENTS: Final = 30_000
WEEK_SLICES: Final = 200
WEEK_MALFORMED: Final = 20


def land_endlessly(stream: StreamConfig, folder: Path) -> Iterator[StreamSlice]:
    """Land the next slice whenever it is asked for: of the stream, then of the weeks that follow it.

    REQUIRES: one writer at a time. Raises ValueError if the folder holds another stream.
    """
    begun = max(_begun_weeks(folder), default=0)
    if not begun:
        yield from land(stream, folder)
    for number in count(max(begun, 1)):
        yield from land(week(stream, number), folder, prefix=_prefix(number))


def week(stream: StreamConfig, number: int) -> StreamConfig:
    """The n-th week (from 1) after a stream.

    Its first events are dated the day before it starts, so there is a day without orders between two weeks: no row of
    the source has two states of one moment.
    """
    days = stream.days + 1 + WEEK_DAYS * (number - 1)
    return replace(
        stream,
        seed=stream.seed + number,
        start=stream.start + timedelta(days=days),
        days=WEEK_DAYS - 1,
        events=WEEK_EVENTS,
        slices=WEEK_SLICES,
        malformed=WEEK_MALFORMED,
    )


def _prefix(number: int) -> str:
    return f"week-{number:06d}-"


def _begun_weeks(folder: Path) -> Iterator[int]:
    for path in folder.glob(f"week-*-{CONFIG_FILE}"):
        yield int(path.name.split("-")[1])

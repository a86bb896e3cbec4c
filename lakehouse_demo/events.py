"""The embedded stream: the business's change events as seeded slices of landing files.

The stream is a pure function of its ``StreamConfig``: the same values give the same bytes on every machine.
It is made slice by slice (a slice is a span of the business's time), in memory that does not grow with the
number of events.

Source order is the order of change times. Delivery differs from it: most events arrive within seconds, some
minutes later, some hours later and so in a later file; some arrive twice, in the same file or another;
malformed lines stand between them. The format of the lines is told in ``source_tables``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Final, TypeAlias

from lakehouse_demo.business import DAY_MS, Business, Change, epoch_ms
from lakehouse_demo.malformed import KINDS, malformed_line
from lakehouse_demo.source_tables import DATABASE, FILE_SUFFIX, SOURCE_TABLES

EVENTS_MIN: Final = 200
CONNECTOR_DELAY_MS: Final = 25
"""From the change in the source to the ``ts_ms`` of the envelope."""

LATE_BY_HOURS_SHARE: Final = 0.02
LATE_BY_MINUTES_SHARE: Final = 0.06
DUPLICATE_SHARE: Final = 0.02
HOURS_LATE_MAX_MS: Final = 14 * 3_600_000
MINUTES_LATE_MAX_MS: Final = 45 * 60_000
PROMPT_MAX_MS: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """What a stream is made of. Raises ValueError for values that no stream can have.

    ``events``: change events of all tables, the initial snapshot included; deliveries that come twice and
    malformed lines are added to it. ``days`` days from ``start`` on are cut into ``slices`` spans of equal
    length. ``malformed``: number of malformed lines; all kinds occur from ``len(malformed.KINDS)`` on. A
    file has at most ``file_lines_max`` lines.
    """

    seed: int = 7
    events: int = 200_000
    start: date = date(2024, 1, 29)
    days: int = 6
    slices: int = 24
    malformed: int = 48
    file_lines_max: int = 50_000

    def __post_init__(self) -> None:
        if not EVENTS_MIN <= self.events <= self.days * DAY_MS:
            raise ValueError(
                f"events is {self.events}; expected {EVENTS_MIN} up to one a millisecond of {self.days} days"
            )
        if self.days < 1 or self.slices < 1 or self.file_lines_max < 1 or self.malformed < 0:
            raise ValueError(f"days, slices and file_lines_max must be positive, malformed not negative: {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFile:
    """One landing file: its table, name within the table's folder, bytes, and the numbers (from 1) of its
    malformed lines.
    """

    table: str
    name: str
    content: bytes
    lines: int
    malformed: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSlice:
    """What lands in one span of the business's time; ``files`` are in landing order, dimensions first.

    ``events`` counts the changes that the source made in the span, by (table, op); ``late`` and
    ``duplicates`` the deliveries of the slice that are hours late, or come again.
    """

    index: int
    files: tuple[StreamFile, ...]
    events: Counter[tuple[str, str]]
    late: int
    duplicates: int


def stream_slices(config: StreamConfig) -> Iterator[StreamSlice]:
    """All slices of the stream, in order, each made when it is asked for."""
    return _Stream(config).slices()


_LATE, _DUPLICATE, _MALFORMED = 1, 2, 4

_Delivery: TypeAlias = tuple[int, int, str, str, int]
"""(arrival in epoch ms, number of the delivery, table, line, flags): sorts by arrival."""


class _Stream:
    """The state of a stream between two slices: the business, and what was sent and has not arrived."""

    def __init__(self, config: StreamConfig) -> None:
        self._config = config
        self._start_ms = epoch_ms(config.start)
        self._span_ms = config.days * DAY_MS
        self._days = [(config.start + timedelta(days=day)).isoformat() for day in range(config.days)]
        rng = Random(f"{config.seed}/{config.events}")
        self._random = rng.random
        self._business = Business(
            rng,
            start=config.start,
            days=config.days,
            members=config.events // 20,
            agents=max(12, min(240, config.events // 500)),
            events=config.events,
        )
        self._arriving: list[list[_Delivery]] = [[] for _ in range(config.slices)]
        self._deliveries = 0
        self._seq = 0
        self._bad_lines = 0
        self._files: Counter[str] = Counter()
        self._landed = 0

    def slices(self) -> Iterator[StreamSlice]:
        events: Counter[tuple[str, str]] = Counter()
        for change in self._business.snapshot():
            self._send(change, self._start_ms - DAY_MS, latency_ms=0)
            events[change[:2]] += 1
        changes = self._business.changes
        done = 0
        for index in range(self._config.slices):
            until = changes * (index + 1) // self._config.slices
            for number in range(done, until):
                now_ms = self._start_ms + (number + 1) * self._span_ms // (changes + 1)
                v_date = self._days[(now_ms - self._start_ms) // DAY_MS]
                change = self._business.change(v_date, now_ms)
                self._deliver(change, now_ms)
                events[change[:2]] += 1
                while self._bad_lines * changes < self._config.malformed * (number + 1):
                    self._send_malformed(v_date, now_ms)
            done = until
            yield self._slice(index, events)
            events = Counter()

    def _deliver(self, change: Change, now_ms: int) -> None:
        """Send a change by chance at once or late, and by chance twice."""
        chance = self._random()
        if chance < LATE_BY_HOURS_SHARE:
            line = self._send(change, now_ms, latency_ms=self._between(3_600_000, HOURS_LATE_MAX_MS), flags=_LATE)
        elif chance < LATE_BY_HOURS_SHARE + LATE_BY_MINUTES_SHARE:
            line = self._send(change, now_ms, latency_ms=self._between(PROMPT_MAX_MS, MINUTES_LATE_MAX_MS))
        else:
            line = self._send(change, now_ms, latency_ms=self._between(0, PROMPT_MAX_MS))
        if self._random() < DUPLICATE_SHARE:
            latest = HOURS_LATE_MAX_MS if self._random() < 0.5 else MINUTES_LATE_MAX_MS
            self._arrive(now_ms + self._between(0, latest), change[0], line, _DUPLICATE)

    def _send(self, change: Change, now_ms: int, *, latency_ms: int, flags: int = 0) -> str:
        table, op, before, after = change
        self._seq += 1
        line = (
            f'{{"op":"{op}","before":{before},"after":{after},"ts_ms":{now_ms + CONNECTOR_DELAY_MS},'
            f'"source":{{"db":"{DATABASE}","table":"{table}","ts_ms":{now_ms},"seq":{self._seq}}}}}'
        )
        self._arrive(now_ms + latency_ms, table, line, flags)
        return line

    def _send_malformed(self, v_date: str, now_ms: int) -> None:
        kind = self._bad_lines % len(KINDS)
        self._bad_lines += 1
        table, line = malformed_line(kind, self._bad_lines, v_date=v_date, now_ms=now_ms, seq=self._seq)
        self._arrive(now_ms + self._between(0, MINUTES_LATE_MAX_MS), table, line, _MALFORMED)

    def _between(self, low: int, high: int) -> int:
        return low + int(self._random() * (high - low))

    def _arrive(self, arrival_ms: int, table: str, line: str, flags: int) -> None:
        index = (arrival_ms - self._start_ms) * self._config.slices // self._span_ms
        place = min(max(index, self._landed), self._config.slices - 1)
        self._arriving[place].append((arrival_ms, self._deliveries, table, line, flags))
        self._deliveries += 1

    def _slice(self, index: int, events: Counter[tuple[str, str]]) -> StreamSlice:
        arrived, self._arriving[index] = sorted(self._arriving[index]), []
        self._landed = index + 1
        by_table: dict[str, list[_Delivery]] = {table: [] for table in SOURCE_TABLES}
        for delivery in arrived:
            by_table[delivery[2]].append(delivery)
        return StreamSlice(
            index=index,
            files=tuple(file for table, rows in by_table.items() for file in self._table_files(table, rows)),
            events=events,
            late=sum(delivery[4] == _LATE for delivery in arrived),
            duplicates=sum(delivery[4] == _DUPLICATE for delivery in arrived),
        )

    def _table_files(self, table: str, arrived: list[_Delivery]) -> Iterator[StreamFile]:
        for first in range(0, len(arrived), self._config.file_lines_max):
            part = arrived[first : first + self._config.file_lines_max]
            self._files[table] += 1
            yield StreamFile(
                table=table,
                name=f"{self._files[table]:06d}{FILE_SUFFIX}",
                content="".join([f"{delivery[3]}\n" for delivery in part]).encode(errors="surrogateescape"),
                lines=len(part),
                malformed=tuple(line for line, delivery in enumerate(part, start=1) if delivery[4] == _MALFORMED),
            )

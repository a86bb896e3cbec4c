"""Kafka as a change source: a table is a topic, its position the next offset of each partition.

The offsets stand in the target's snapshot, never in a consumer group. A position also names the topic's identity: one that
was deleted and made again is told, not read from where the old one ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import polars as pl

from lakehouse_assets.sources.change_source import SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourcePositionLost
from lakehouse_assets.sources.kafka.avro_values import AvroFormat
from lakehouse_assets.sources.kafka.connection import KafkaConnection
from lakehouse_assets.sources.kafka.json_values import debezium_rows, lenient_events, lenient_rows, plain_rows
from lakehouse_assets.sources.kafka.topic_reader import Offsets, Topic, TopicReader
from lakehouse_assets.sources.typed_rows import typed_batch

JsonFormat = Literal["json", "debezium-json"]
Start = Literal["earliest", "latest"] | datetime
UNBOUNDED: Final = 2**62

_JSON: Final[Mapping[str, Callable[[pl.DataFrame, SourceTable], tuple[pl.DataFrame, pl.DataFrame]]]] = {
    "json": plain_rows,
    "debezium-json": debezium_rows,
}
_LENIENT: Final[Mapping[str, Callable[[pl.DataFrame, SourceTable], pl.DataFrame]]] = {
    "json": lenient_rows,
    "debezium-json": lenient_events,
}


class KafkaChanges:
    """The topics of one cluster as a ``ChangeSource``.

    ``prefix``: what topics' names have before the tables'. ``start``: where a table without a position begins:
    "earliest", "latest", or messages since a time (UTC if it has no zone). Partitions that are added later are read from
    their first message.
    """

    def __init__(
        self,
        connection: KafkaConnection,
        *,
        format: JsonFormat | AvroFormat = "debezium-json",  # noqa: A002 - what Kafka's users call it
        prefix: str = "",
        start: Start = "earliest",
    ) -> None:
        self._connection = connection
        self._reader = TopicReader(connection)
        self._format = format
        self._prefix = prefix
        self._start = start

    @property
    def name(self) -> str:
        """Where the cluster is."""
        return f"Kafka {self._connection.servers}"

    @property
    def tables_are_apart(self) -> Literal[True]:
        """A table is a topic of its own."""
        return True

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        """The next messages of each topic; a table without a position whose topic is empty gets the topic's start."""
        found = {table.name: self._next(table, position, max_rows) for table, position in tables}
        return {name: batch for name, batch in found.items() if batch is not None}

    def everything(self, table: SourceTable) -> SourceBatch:
        """All messages that the topic still has, in the order of its partitions."""
        topic = self._reader.topic(self._prefix + table.name)
        messages, following = self._reader.messages(topic, topic.first, max_rows=UNBOUNDED)
        return self._batch(table, topic, messages, following)

    def _next(self, table: SourceTable, position: str | None, max_rows: int) -> SourceBatch | None:
        topic = self._reader.topic(self._prefix + table.name)
        start = self._first_offsets(topic) if position is None else _checked(topic, position)
        if position is not None and all(start[number] >= end for number, end in topic.end.items()):
            return None
        messages, following = self._reader.messages(topic, start, max_rows=max_rows)
        if position is not None and messages.is_empty():
            return None
        return self._batch(table, topic, messages, following)

    def _first_offsets(self, topic: Topic) -> Offsets:
        if isinstance(self._start, datetime):
            return self._reader.offsets_at(topic, round(self._start.timestamp() * 1000))
        return topic.first if self._start == "earliest" else topic.end

    def _batch(self, table: SourceTable, topic: Topic, messages: pl.DataFrame, following: Offsets) -> SourceBatch:
        position = json.dumps(
            {"topic": topic.identity, "offsets": {str(each): following[each] for each in sorted(following)}}
        )
        at_end = all(following[number] >= end for number, end in topic.end.items())
        if isinstance(self._format, AvroFormat):
            return typed_batch(table, self._format.rows(messages, table), position=position, at_end=at_end)
        if table.lenient:
            return typed_batch(table, _LENIENT[self._format](messages, table), position=position, at_end=at_end)
        rows, rejected = _JSON[self._format](messages, table)
        return SourceBatch(position=position, rows=rows, rejected=rejected, at_end=at_end)


def _checked(topic: Topic, position: str) -> Offsets:
    """The offsets of a position. Raises SourcePositionLost if the topic no longer has what comes after them."""
    told = json.loads(position)
    offsets = {int(number): int(offset) for number, offset in told["offsets"].items()}
    remedy = "take a new snapshot of its table (materialize it with whole: true)"
    if told["topic"] != topic.identity:
        raise SourcePositionLost(f"topic {topic.name} was deleted and made again since it was read: {remedy}")
    for number, offset in offsets.items():
        first, end = topic.first.get(number, 0), topic.end.get(number, 0)
        if offset < first:
            raise SourcePositionLost(
                f"offsets {offset} to {first - 1} of topic {topic.name}, partition {number}, were removed before they were"
                f" read (retention): {remedy} with what is left, and let the topic keep messages for longer (retention.ms,"
                " retention.bytes)"
            )
        if offset > end:
            raise SourcePositionLost(
                f"topic {topic.name}, partition {number}, ends at offset {end}, but it was read up to {offset} (messages were"
                f" lost with a broker, or truncated): {remedy}"
            )
    return {number: offsets.get(number, topic.first[number]) for number in topic.end}

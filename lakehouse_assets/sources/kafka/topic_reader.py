"""A topic from some offsets to others, as a frame of messages. No consumer group has a say in it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from lakehouse_assets.sources.errors import SourceUnavailable
from lakehouse_assets.sources.kafka.connection import (
    AUTHENTICATION,
    PARTITION_EOF,
    SSL,
    TIMEOUT_S,
    KafkaConnection,
    driver,
    source_error,
)

MESSAGES: Final = pl.Schema(
    {
        "partition": pl.Int32(),
        "offset": pl.Int64(),
        "time_ms": pl.Int64(),
        "key": pl.Binary(),
        "value": pl.Binary(),
    }
)
CHUNK_MESSAGES: Final = 20_000
MAX_BYTES: Final = 256 * 1024 * 1024
"""A batch ends when it holds as much, whatever its number of rows."""
POLL_S: Final = 0.02
STALL_S: Final = 30.0

Offsets = Mapping[int, int]
"""Partition → offset of the next message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic as it is now: its identity (a topic made again has another one), and the offsets that it holds."""

    name: str
    identity: str
    first: Offsets
    end: Offsets


class TopicReader:
    """Reads topics of one cluster; keeps its connection between calls, and makes a new one after an error."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._consumer: Any = None
        self._admin: Any = None
        self._errors: list[Any] = []

    def topic(self, name: str) -> Topic:
        """What a topic is and holds. Raises SourceMissing, SourceUnavailable and SourceAccessDenied."""
        kafka = driver()
        try:
            found = self._described(name)
            numbers = [partition.id for partition in found.partitions]
            consumer = self._open()
            bounds = {
                number: consumer.get_watermark_offsets(kafka.TopicPartition(name, number), timeout=TIMEOUT_S)
                for number in numbers
            }
        except kafka.KafkaException as error:
            raise self._failed(error.args[0], name) from None
        return Topic(
            name=name,
            identity=str(found.topic_id),
            first={number: low for number, (low, _) in bounds.items()},
            end={number: high for number, (_, high) in bounds.items()},
        )

    def offsets_at(self, topic: Topic, time_ms: int) -> Offsets:
        """The first offsets whose messages are not older than a time; the topic's end where there is none."""
        kafka = driver()
        asked = [kafka.TopicPartition(topic.name, number, time_ms) for number in topic.end]
        try:
            found = self._open().offsets_for_times(asked, timeout=TIMEOUT_S)
        except kafka.KafkaException as error:
            raise self._failed(error.args[0], topic.name) from None
        return {each.partition: each.offset if each.offset >= 0 else topic.end[each.partition] for each in found}

    def messages(self, topic: Topic, start: Offsets, *, max_rows: int) -> tuple[pl.DataFrame, Offsets]:
        """The messages from some offsets to the topic's end, about ``max_rows`` at most; and what comes next.

        Sorted by partition and offset. Raises SourceUnavailable if the cluster goes away in between, and
        SourcePositionLost if it has removed messages meanwhile.
        """
        kafka = driver()
        open_ = {number for number, offset in start.items() if offset < topic.end[number]}
        following, frames, rows, size = dict(start), [pl.DataFrame(schema=MESSAGES)], 0, 0
        consumer = self._open()
        consumer.assign([kafka.TopicPartition(topic.name, number, start[number]) for number in sorted(open_)])
        moved = time.monotonic()
        while open_ and rows < max_rows and size < MAX_BYTES:
            polled = consumer.consume(min(CHUNK_MESSAGES, max(max_rows - rows, 1)), POLL_S)
            for event in (message for message in polled if message.error()):
                if event.error().code() != PARTITION_EOF:
                    raise self._failed(event.error(), topic.name)
                following[event.partition()] = max(following[event.partition()], event.offset())
                open_.discard(event.partition())
            frame = _frame([message for message in polled if not message.error()])
            if not frame.is_empty():
                frames.append(frame)
                rows, size = rows + frame.height, size + int(frame["value"].bin.size().sum() or 0)
                ends = frame.group_by("partition").agg(pl.col("offset").max() + 1)
                following.update(dict(ends.select("partition", "offset").iter_rows()))
                open_ -= {number for number in open_ if following[number] >= topic.end[number]}
            if polled:
                moved = time.monotonic()
            elif time.monotonic() - moved > STALL_S:
                raise self._failed(None, topic.name)
        consumer.unassign()
        return pl.concat(frames).sort("partition", "offset"), following

    def _described(self, name: str) -> Any:
        kafka = driver()
        if self._admin is None:
            admin = kafka.admin.AdminClient({**self._connection.client_settings(), "error_cb": self._errors.append})
            self._admin = admin
        asked = self._admin.describe_topics(kafka.TopicCollection([name]), request_timeout=TIMEOUT_S)
        return asked[name].result()

    def _open(self) -> Any:
        if self._consumer is None:
            settings = {**self._connection.consumer_settings(), "error_cb": self._errors.append}
            self._consumer = driver().Consumer(settings)
        return self._consumer

    def _failed(self, error: Any, topic: str) -> Exception:
        """The error to raise: what the driver told aside says more than that it timed out. Forgets the connection."""
        if self._admin is not None:
            self._admin.poll(0)
        if self._consumer is not None:
            self._consumer.poll(0)
            self._consumer.close()
        self._consumer = self._admin = None
        told = [each for each in self._errors if each.code() in (AUTHENTICATION, SSL)]
        self._errors.clear()
        servers = self._connection.servers
        if told or error is not None:
            return source_error(told[0] if told else error, servers, f"topic {topic}")
        return SourceUnavailable(f"Kafka at {servers} has sent nothing of topic {topic} for {STALL_S:.0f} s")


def _frame(messages: Sequence[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "partition": [message.partition() for message in messages],
            "offset": [message.offset() for message in messages],
            "time_ms": [message.timestamp()[1] for message in messages],
            "key": [_bytes(message.key()) for message in messages],
            "value": [_bytes(message.value()) for message in messages],
        },
        schema=MESSAGES,
    )


def _bytes(content: str | bytes | None) -> bytes | None:
    return content.encode() if isinstance(content, str) else content

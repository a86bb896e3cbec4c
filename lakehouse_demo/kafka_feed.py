"""Kafka as a feed: the embedded stream's lines as messages in a private broker's topics, one topic a table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

from lakehouse_assets.extras import package
from lakehouse_assets.resources import ChangesResource
from lakehouse_assets.sources.change_source import ChangeSource
from lakehouse_assets.sources.kafka.changes import KafkaChanges
from lakehouse_assets.sources.kafka.connection import KafkaConnection
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_demo.claims import only_writer
from lakehouse_demo.events import StreamConfig
from lakehouse_demo.feeds import FeedFacts, Finding
from lakehouse_demo.file_feed import app_findings, quarantine_finding, stream_facts
from lakehouse_demo.kafka import KafkaServer
from lakehouse_demo.landing import land
from lakehouse_demo.private_server import TIMEOUT_S, ServerFailed
from lakehouse_demo.truth import recompute
from storage_engine import Catalog

KAFKA: Final = "kafka"
_SETTINGS: Final = {"acks": "all", "enable.idempotence": True, "linger.ms": 20, "log_level": 0}


class BrokerChanges(ChangesResource):
    """A private broker's topics; where it listens stands in the broker's folder."""

    folder: str

    def source(self) -> ChangeSource:
        """The topics as a source."""
        return KafkaChanges(KafkaConnection(servers=KafkaServer(self.folder).servers))


class KafkaFeed:
    """The embedded stream on a broker, which is stopped and started again in the middle.

    The lines are kept in files beside it, for the recomputation; a topic holds those of its table, in their order. So the
    number of its messages tells where a feed that was killed goes on.
    """

    def __init__(self, config: StreamConfig, folder: Path) -> None:
        self._config = config
        self._lines = folder / "lines"
        self._server = KafkaServer(folder)
        self._held = ExitStack()

    @property
    def facts(self) -> FeedFacts:
        """The stream in words."""
        place = f"in topics of a Kafka broker in {self._server.folder}"
        return stream_facts(KAFKA, self._config, place=place, raw="messages")

    def __enter__(self) -> Self:
        """Start the broker, and make the topics that are missing. Raises ServerMissing, ServerFailed and LandingBusy."""
        with ExitStack() as held:
            held.enter_context(only_writer(self._lines))
            held.callback(self._server.stop)
            self._server.start()
            self._make_topics()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _make_topics(self) -> None:
        """Make those that are missing, and wait until all are led."""
        admin = package("confluent_kafka.admin", extra="kafka")
        client = admin.AdminClient({"bootstrap.servers": self._server.servers})
        there = client.list_topics(timeout=TIMEOUT_S).topics
        missing = [each.source_table for each in INGESTIONS if each.source_table not in there]
        made = client.create_topics([admin.NewTopic(name, 1, 1) for name in missing]) if missing else {}
        for future in made.values():
            future.result()
        self._server.wait_for(self._tables())

    def changes(self) -> ChangesResource:
        """The topics as a source."""
        return BrokerChanges(folder=str(self._server.folder))

    def advance(self) -> Iterator[int]:
        """Send slice after slice. In the middle the broker goes and comes back, while a slice that nobody has read is in its
        topics alone.
        """
        self._send()
        for part in land(self._config, self._lines):
            self._send()
            if part.index + 1 == self._config.slices // 2:
                self._server.stop()
                self._server.start()
                self._server.wait_for(self._tables())
            yield part.index + 1

    def compare(self, catalog: Catalog) -> list[Finding]:
        """The APP tables and the quarantine, held against a recomputation of the raw messages."""
        truth = recompute(self._lines)
        lines = {f"{table}/{path.name}": before for table in self._tables() for path, before in self._files(table)}
        refused = {
            (f"{line.table}/0", lines[f"{line.table}/{line.file}"] + line.line - 1) for line in truth.quarantined
        }
        return [*app_findings(catalog, truth), quarantine_finding(catalog, refused)]

    def _tables(self) -> list[str]:
        return [each.source_table for each in INGESTIONS]

    def _files(self, table: str) -> Iterator[tuple[Path, int]]:
        """A table's files, each with the number of lines before it."""
        before = 0
        for path in sorted((self._lines / table).glob("*.jsonl")):
            yield path, before
            before += path.read_bytes().count(b"\n")

    def _send(self) -> None:
        """Send the lines that are not in their topics yet. Raises ServerFailed."""
        kafka = package("confluent_kafka", extra="kafka")
        consumer = kafka.Consumer({"bootstrap.servers": self._server.servers, "group.id": KAFKA, "log_level": 0})
        producer = kafka.Producer({"bootstrap.servers": self._server.servers, **_SETTINGS})
        failed: list[str] = []

        def told(error: Any, _: Any) -> None:
            failed.extend([] if error is None else [str(error)])

        for table in self._tables():
            _, sent = consumer.get_watermark_offsets(kafka.TopicPartition(table, 0), timeout=TIMEOUT_S)
            for path, before in self._files(table):
                lines = path.read_bytes().split(b"\n")[:-1]
                for line in lines[max(0, sent - before) :]:
                    _produce(producer, table, line, told)
        left = producer.flush(TIMEOUT_S)
        consumer.close()
        if failed or left:
            raise ServerFailed(f"the broker in {self._server.folder} refused messages: {failed[:1] or left}")


def _produce(producer: Any, topic: str, line: bytes, told: Any) -> None:
    while True:
        try:
            producer.produce(topic, value=line, partition=0, on_delivery=told)
        except BufferError:  # its queue is full
            producer.poll(1)
        else:
            producer.poll(0)
            return

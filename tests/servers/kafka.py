"""A real Kafka broker for tests: one process in KRaft mode, on this machine only, with a listener that wants a password."""

from __future__ import annotations

import base64
import subprocess
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from lakehouse_demo.java import java_tool
from lakehouse_demo.kafka import broker_command
from tests.reliability.seaweedfs import free_ports

USER, PASSWORD = "reader", "kafka-password-that-must-not-show"
START_LIMIT_S = 90

_CONFIGURATION = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{open},SASL_PLAINTEXT://127.0.0.1:{closed},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{open},SASL_PLAINTEXT://127.0.0.1:{closed}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={login} required user_{user}="{password}";
log.dirs={data}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
auto.create.topics.enable=false
"""


def installed() -> bool:
    """Whether Java is here; the broker's jars are fetched when it first starts."""
    return java_tool("java") is not None


class KafkaBroker:
    """A broker with its data in a folder; ``kill`` and ``start`` make it vanish and come back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._command = broker_command()
        ports = list(free_ports().values())
        self.servers, self.closed_servers = f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
        self.admin = AdminClient({"bootstrap.servers": self.servers, "log_level": 0})
        self._process: subprocess.Popen[bytes] | None = None
        self._configuration = folder / "server.properties"
        self._configuration.write_text(
            _CONFIGURATION.format(
                open=ports[0],
                closed=ports[1],
                controller=ports[2],
                data=folder / "data",
                login="org.apache.kafka.common.security.plain.PlainLoginModule",
                user=USER,
                password=PASSWORD,
            )
        )
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._configuration)]
        subprocess.run([*self._command, *tool], check=True, capture_output=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start the broker, unless it runs, and wait until it answers."""
        if self._process is not None:
            return
        with open(self.folder / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "kafka.Kafka", str(self._configuration)], stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(KafkaException):
                self.admin.list_topics(timeout=1)
                return
        self.kill()
        raise RuntimeError(f"Kafka did not start:\n{(self.folder / 'broker.log').read_text()[-3000:]}")

    def kill(self) -> None:
        """End the broker at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def create(self, topic: str, *, partitions: int = 1, **config: str) -> None:
        new = NewTopic(topic, partitions, 1, config={name.replace("_", "."): value for name, value in config.items()})
        self.admin.create_topics([new])[topic].result()

    def grow(self, topic: str, partitions: int) -> None:
        """Add partitions."""
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result()

    def delete(self, topic: str) -> None:
        self.admin.delete_topics([topic], operation_timeout=30)[topic].result()

    def forget(self, topic: str, partition: int, before: int) -> None:
        """Remove messages as retention does."""
        from_offset = TopicPartition(topic, partition, before)
        self.admin.delete_records([from_offset])[from_offset].result()

    def send(self, topic: str, messages: Sequence[tuple[Any, Any]], *, partition: int = 0, time_ms: int = 0) -> None:
        """Messages as (key, value), each a text, bytes or None, in order."""
        producer = Producer({"bootstrap.servers": self.servers, "acks": "all"})
        refused: list[Any] = []

        def told(error: Any, _: Any) -> None:
            refused.extend([] if error is None else [error])

        for key, value in messages:
            producer.produce(topic, key=key, value=value, partition=partition, timestamp=time_ms, on_delivery=told)
        assert producer.flush(30) == 0
        assert refused == []

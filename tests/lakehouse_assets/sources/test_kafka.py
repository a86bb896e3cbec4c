"""Kafka as a change source, against a real broker: each message once, whatever happens to the broker and to the reader."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from itertools import count
from threading import Thread
from typing import Any

import fastavro
import polars as pl
import pytest
from confluent_kafka import Producer

from lakehouse_assets.ingest import Ingester, Ingestion
from lakehouse_assets.quarantine import refused_lines
from lakehouse_assets.sources.errors import (
    SourceAccessDenied,
    SourceMissing,
    SourcePositionLost,
    SourceSchemaChanged,
    SourceUnavailable,
)
from lakehouse_assets.sources.kafka import connection, topic_reader
from lakehouse_assets.sources.kafka.avro_values import AvroFormat
from lakehouse_assets.sources.kafka.changes import KafkaChanges
from lakehouse_assets.sources.kafka.connection import KafkaConnection, SchemaRegistry
from storage_engine import Catalog
from storage_engine.errors import InvalidInput
from tests.lakehouse_assets.quarantine_table import QUARANTINE_DDL
from tests.servers.kafka import PASSWORD, USER, KafkaBroker, installed

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(not installed(), reason="java is not installed, which the Kafka broker needs"),
]

numbers = count(1)


@pytest.fixture(scope="module")
def one_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture
def broker(one_broker: KafkaBroker) -> KafkaBroker:
    """The broker, running again if the test before killed it."""
    one_broker.start()
    return one_broker


@pytest.fixture
def topic(broker: KafkaBroker) -> str:
    """A new topic of two partitions."""
    name = f"item_{next(numbers)}"
    broker.create(name, partitions=2)
    return name


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives up on a broker that is away after a moment."""
    monkeypatch.setattr(topic_reader, "TIMEOUT_S", 2)
    monkeypatch.setattr(topic_reader, "STALL_S", 2.0)
    monkeypatch.setattr(connection, "TIMEOUT_S", 2)


Ingesting = Callable[..., Ingester]


@pytest.fixture
def ingesting(catalog: Catalog, broker: KafkaBroker, topic: str) -> Ingesting:
    """Makes the ingester of the topic; settings are of ``KafkaChanges``."""
    catalog.execute(QUARANTINE_DDL)
    catalog.execute(
        """CREATE TABLE ods.item (id INT, name STRING, price DECIMAL(10, 2), event_time TIMESTAMP(3), op STRING,
           deleted BOOLEAN, PRIMARY KEY (id) NOT ENFORCED) WITH ('bucket' = '1', 'sequence.field' = 'event_time')"""
    )

    def made(
        *, max_rows: int = 1_000, servers: str | None = None, secrets: Mapping[str, str] | None = None, **settings: Any
    ):
        closed = {} if secrets is None else {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        named = {} if secrets is None else {"sasl.username": USER}
        cluster = KafkaConnection(
            servers=servers or broker.servers, settings={**closed, **named}, secrets=secrets or {}
        )
        source = KafkaChanges(cluster, **{"format": "json", **settings})
        ingestion = Ingestion(source_table=topic, target="ods.item", added=("op", "deleted", "event_time"))
        return Ingester(catalog, source, [ingestion], max_rows=max_rows)

    return made


def item(number: int, name: str = "tea", price: str = "1.50") -> tuple[str, str]:
    return str(number), json.dumps({"id": number, "name": name, "price": price})


def caught_up(ingester: Ingester) -> list[tuple[Any, ...]]:
    while ingester.run_batch():
        pass
    return rows(ingester)


def rows(ingester: Ingester) -> list[tuple[Any, ...]]:
    found = ingester.tables["ods.item"].scan().sort("id").collect()
    return found.select("id", "name", pl.col("price").cast(pl.String), "op", "deleted").rows()


def commits(ingester: Ingester) -> int:
    found = ingester.tables["ods.item"].snapshots()
    return found.filter(pl.col("commit_user") == "stream-ods.item").filter(pl.col("commit_kind") == "APPEND").height


# -- values ------------------------------------------------------------------------------------------------------------


def test_rows_keys_and_tombstones(broker: KafkaBroker, topic: str, ingesting: Ingesting) -> None:
    ingester = ingesting()
    assert ingester.waiting() == [ingester.ingestions[0].target]  # where it begins is not kept yet
    broker.send(topic, [item(1), item(2), item(3, 'a\n{"b": 1}, "c')], partition=0)
    broker.send(topic, [item(4)], partition=1)
    assert caught_up(ingester) == [
        (1, "tea", "1.50", "u", False),
        (2, "tea", "1.50", "u", False),
        (3, 'a\n{"b": 1}, "c', "1.50", "u", False),
        (4, "tea", "1.50", "u", False),
    ]
    assert ingester.waiting() == []
    broker.send(topic, [item(2, "milk"), ("1", None), ('{"id": 3}', None)], partition=0)
    assert ingester.waiting() == ["ods.item"]
    assert caught_up(ingester) == [
        (1, None, None, "d", True),
        (2, "milk", "1.50", "u", False),
        (3, None, None, "d", True),
        (4, "tea", "1.50", "u", False),
    ]


@pytest.mark.parametrize("lenient", [False, True])
def test_a_key_that_is_deleted_and_comes_again_in_one_batch(
    catalog: Catalog, broker: KafkaBroker, topic: str, lenient: bool
) -> None:
    """In the order of the messages, also where no time tells it."""
    catalog.execute(QUARANTINE_DDL)
    catalog.create_table("ods.item", {"id": "INT", "name": "STRING"}, primary_key=["id"], options={"bucket": "1"})
    source = KafkaChanges(KafkaConnection(servers=broker.servers), format="json")
    ingestion = Ingestion(source_table=topic, target="ods.item", added=(), lenient=lenient)
    ingester = Ingester(catalog, source, [ingestion])
    one, two = ((str(number), json.dumps({"id": number, "name": "first"})) for number in (1, 2))
    broker.send(topic, [one, ("1", None), ("1", '{"id": 1, "name": "again"}'), two, ('{"id": 2}', None)])
    assert len(ingester.run_batch()) == 1
    assert ingester.tables["ods.item"].scan().collect().rows() == [(1, "again")]


def test_other_members_of_messages_are_passed_over_and_missing_ones_null(
    catalog: Catalog, broker: KafkaBroker, topic: str
) -> None:
    catalog.execute(QUARANTINE_DDL)
    columns = {
        "id": "BIGINT",
        "name": "STRING",
        "price": "DECIMAL(10,2)",
        "at": "TIMESTAMP(3)",
        "event_time": "TIMESTAMP(3)",
    }
    catalog.create_table("ods.item", columns, primary_key=["id"], options={"bucket": "1"})
    source = KafkaChanges(KafkaConnection(servers=broker.servers), format="json")
    ingester = Ingester(
        catalog, source, [Ingestion(source_table=topic, target="ods.item", added=("event_time",), lenient=True)]
    )
    row = {"id": 1, "price": 1.5, "at": "2024-01-05 10:00:00", "tags": [{"a": 1}], "more": "x"}
    wrapped = json.dumps({"schema": {"type": "struct", "fields": []}, "payload": {"id": 2, "name": "w", "more": 1}})
    bad = [
        ("3", "[]"),
        ("4", ""),
        ("5", '{"name": "x"}'),
        ("x", None),
        (None, None),
        ("6", '{"id": 6, "price": "1.234"}'),
    ]
    broker.send(topic, [("1", json.dumps(row)), ("2", wrapped), *bad])
    while ingester.run_batch():
        pass
    found = ingester.tables["ods.item"].scan().sort("id").collect()
    at = datetime(2024, 1, 5, 10)
    assert found.drop("event_time").rows() == [(1, None, Decimal("1.50"), at), (2, "w", None, None)]
    assert found["event_time"].null_count() == 0, "the time of the message"
    assert refused_lines(ingester.quarantine)["reason"].to_list() == [
        "no JSON object in UTF-8",
        "no JSON object in UTF-8",
        "id is null",
        "no JSON object in UTF-8",
        "no JSON object in UTF-8",
        'price is no DECIMAL(10, 2): "1.234"',
    ]


def event(op: str, number: int, name: str, ts_ms: int) -> str:
    row = {"id": number, "name": name, "price": "2.00"}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    source = {"version": "3.0", "connector": "postgresql", "ts_ms": ts_ms, "sequence": '[null,"7"]', "lsn": 7}
    return json.dumps({"op": op, **sides, "source": source, "transaction": None, "ts_ms": ts_ms + 1})


def test_debezium_envelopes_with_and_without_their_schema(
    broker: KafkaBroker, topic: str, ingesting: Ingesting
) -> None:
    payload = event("u", 1, "milk", 5)
    wrapped = json.dumps({"schema": {"type": "struct", "fields": [{"field": "op", "payload": {}}]}})[:-1]
    broker.send(topic, [("1", event("c", 1, "tea", 3)), ("2", event("c", 2, "tea", 3))])
    broker.send(topic, [("1", f'{wrapped}, "payload": {payload}}}'), ("2", event("d", 2, "tea", 4)), ("2", None)])
    assert caught_up(ingesting(format="debezium-json")) == [
        (1, "milk", "2.00", "u", False),
        (2, "tea", "2.00", "d", True),
    ]


def test_poison_is_kept_with_topic_partition_offset_and_reason(
    catalog: Catalog, broker: KafkaBroker, topic: str, ingesting: Ingesting
) -> None:
    bad = ["{", '{"id": 1}', b"\xff\x00", '{"id": 1, "name": "a", "price": "1.234"}', event("c", 1, "x", 1), "7", ""]
    broker.send(topic, [("1", value) for value in bad], partition=1)
    broker.send(topic, [item(9), (None, None), ("x y", None)], partition=0)
    ingester = ingesting()
    assert caught_up(ingester) == [(9, "tea", "1.50", "u", False)]
    refused = refused_lines(ingester.quarantine)
    places = refused.select("source_file", "line").rows()
    assert places == [(f"{topic}/0", 1), (f"{topic}/0", 2), *((f"{topic}/1", offset) for offset in range(7))]
    reasons = refused["reason"].to_list()
    assert reasons[0] == reasons[1] == "a tombstone whose key is no JSON"
    assert reasons[2] == "the value is no flat JSON object in UTF-8"
    assert reasons[3] == "missing columns: name, price"
    assert reasons[5] == 'price is no DECIMAL(10,2): "1.234"'
    assert refused["raw"][4] == r"\xff" + "\x00"


# -- positions ---------------------------------------------------------------------------------------------------------


def test_batches_are_bounded_and_begin_where_the_last_one_ended(
    broker: KafkaBroker, topic: str, ingesting: Ingesting
) -> None:
    broker.send(topic, [item(number) for number in range(50)], partition=0)
    broker.send(topic, [item(number) for number in range(50, 100)], partition=1)
    ingester = ingesting(max_rows=30)
    sizes = []
    while results := ingester.run_batch():
        sizes.append(results[0].rows_read)
    assert sizes == [30, 30, 30, 10]
    assert len(rows(ingester)) == 100
    assert commits(ingester) == 4


@pytest.mark.parametrize("start", ["latest", datetime.fromtimestamp(2_000, UTC)])
def test_where_a_new_table_begins(broker: KafkaBroker, topic: str, ingesting: Ingesting, start: Any) -> None:
    broker.send(topic, [item(1)], time_ms=1_000_000)
    if start != "latest":
        broker.send(topic, [item(2)], time_ms=2_000_000)
    ingester = ingesting(start=start)
    ingester.run_batch()
    broker.send(topic, [item(3)], time_ms=3_000_000)
    assert [row[0] for row in caught_up(ingester)] == ([3] if start == "latest" else [2, 3])


def test_aborted_transactions_are_not_read(broker: KafkaBroker, topic: str, ingesting: Ingesting) -> None:
    producer = Producer({"bootstrap.servers": broker.servers, "transactional.id": topic})
    producer.init_transactions()
    ingester = ingesting()
    for number, end in [
        (1, producer.commit_transaction),
        (2, producer.abort_transaction),
        (3, producer.commit_transaction),
    ]:
        producer.begin_transaction()
        producer.produce(topic, key=str(number), value=item(number)[1], partition=0)
        end()
        assert [row[0] for row in caught_up(ingester)] == [1, 3][: (number + 1) // 2]
    assert ingester.waiting() == []


def test_new_partitions_are_read_from_their_first_message(
    broker: KafkaBroker, topic: str, ingesting: Ingesting
) -> None:
    broker.send(topic, [item(1)])
    ingester = ingesting(start="latest")
    assert caught_up(ingester) == []
    broker.grow(topic, 3)
    broker.send(topic, [item(2)], partition=2)
    assert [row[0] for row in caught_up(ingesting())] == [2]


def test_what_retention_removed_unread_is_told_and_a_new_snapshot_goes_on(
    broker: KafkaBroker, topic: str, ingesting: Ingesting
) -> None:
    broker.send(topic, [item(1), item(2)])
    ingester = ingesting()
    assert len(caught_up(ingester)) == 2
    broker.send(topic, [item(3), item(4), item(5)])
    broker.forget(topic, 0, before=4)
    with pytest.raises(SourcePositionLost, match=r"offsets 2 to 3 of topic .*, partition 0.*whole: true"):
        ingester.run_batch()
    ingester.resnapshot(ingester.ingestions[0])
    assert [(row[0], row[-1]) for row in caught_up(ingester)] == [(1, True), (2, True), (5, False)]


def test_a_topic_that_was_made_again_is_told(broker: KafkaBroker, topic: str, ingesting: Ingesting) -> None:
    broker.send(topic, [item(1), item(2)])
    ingester = ingesting()
    assert len(caught_up(ingester)) == 2
    broker.delete(topic)
    broker.create(topic, partitions=2)
    broker.send(topic, [item(3), item(4), item(5)])
    with pytest.raises(SourcePositionLost, match="deleted and made again"):
        ingester.run_batch()
    ingester.resnapshot(ingester.ingestions[0])
    assert [row[0] for row in rows(ingester) if not row[-1]] == [3, 4, 5]


# -- a broker that is not as it should be ------------------------------------------------------------------------------


def test_an_unknown_topic_is_told(broker: KafkaBroker, topic: str, ingesting: Ingesting) -> None:
    with pytest.raises(SourceMissing, match=f"has no topic wrong_{topic}: create it"):
        ingesting(prefix="wrong_").run_batch()


def test_a_wrong_password_is_told_and_not_shown(broker: KafkaBroker, ingesting: Ingesting, impatient: None) -> None:
    ingester = ingesting(servers=broker.closed_servers, secrets={"sasl.password": "sesame-" + PASSWORD})
    with pytest.raises(SourceAccessDenied, match="refuses the user or its password") as error:
        ingester.run_batch()
    assert PASSWORD not in str(error.value)
    assert PASSWORD not in repr(ingester.source.__dict__)
    right = ingesting(servers=broker.closed_servers, secrets={"sasl.password": PASSWORD})
    right.run_batch()


def test_secrets_are_not_taken_as_settings() -> None:
    with pytest.raises(InvalidInput, match=r"sasl.password is a secret"):
        KafkaConnection(servers="localhost:9092", settings={"sasl.password": PASSWORD})


def test_a_broker_that_vanishes_and_comes_back_loses_nothing(
    broker: KafkaBroker, topic: str, ingesting: Ingesting, impatient: None
) -> None:
    broker.send(topic, [item(number) for number in range(40)])
    ingester = ingesting(max_rows=10)
    ingester.run_batch()
    broker.kill()
    for read in (ingester.run_batch, ingester.waiting):
        with pytest.raises(SourceUnavailable, match="is away"):
            read()
    broker.start()
    broker.send(topic, [item(number) for number in range(40, 45)])
    assert [row[0] for row in caught_up(ingester)] == list(range(45))
    assert commits(ingester) == 5


# -- Avro --------------------------------------------------------------------------------------------------------------

ITEM = {
    "type": "record",
    "name": "Item",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "name", "type": ["null", "string"], "default": None},
        {"name": "price", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}]},
    ],
}
GROWN = {
    **ITEM,
    "fields": [
        *ITEM["fields"],
        {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
        {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "old", "type": ["null", {"type": "long", "connect.name": "io.debezium.time.Timestamp"}]},
        {"name": "tags", "type": ["null", {"type": "array", "items": "string"}]},
    ],
}
ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "fields": [
        {"name": "before", "type": ["null", ITEM]},
        {"name": "after", "type": ["null", "Item"]},
        {"name": "op", "type": "string"},
    ],
}
KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "int"}]}
SCHEMAS = {1: ITEM, 2: GROWN, 3: ENVELOPE, 4: KEY}


def avro(schema: Any, value: Mapping[str, Any], number: int | None = None) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, schema, value)
    return (b"" if number is None else b"\0" + number.to_bytes(4)) + buffer.getvalue()


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    """The one call of Confluent's interface that a reader makes."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            schema = SCHEMAS.get(int(self.path.rpartition("/")[2]))
            allowed = self.headers["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
            self.send_response(401 if not allowed else 404 if schema is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"schema": json.dumps(schema)}).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    yield SchemaRegistry(url=f"http://127.0.0.1:{server.server_port}", user="user", password="secret")
    server.shutdown()
    server.server_close()


def test_avro_of_a_registry(broker: KafkaBroker, topic: str, ingesting: Ingesting, registry: SchemaRegistry) -> None:
    values = [{"id": number, "name": "tea", "price": Decimal("1.50")} for number in (1, 2, 3)]
    broker.send(topic, [(avro(KEY, row, 4), avro(ITEM, row, 1)) for row in values])
    broker.send(topic, [(None, b"\0\0\0\0\1\x02"), (None, b"{}"), (None, avro(ITEM, values[0], 1) + b"!")], partition=1)
    ingester = ingesting(format=AvroFormat(registry=registry))
    assert [row[0] for row in caught_up(ingester)] == [1, 2, 3]
    assert refused_lines(ingester.quarantine)["line"].to_list() == [0, 1, 2]
    broker.send(topic, [(avro(KEY, {"id": 2}, 4), None)])
    assert caught_up(ingester)[1] == (2, None, None, "d", True)


def test_columns_that_avro_adds_are_followed(
    broker: KafkaBroker, topic: str, ingesting: Ingesting, registry: SchemaRegistry
) -> None:
    row = {"id": 1, "name": None, "price": None}
    broker.send(topic, [(None, avro(ITEM, row, 1))])
    ingester = ingesting(format=AvroFormat(registry=registry))
    assert len(caught_up(ingester)) == 1
    more = {
        "id": 2,
        "day": date(2024, 2, 29),
        "at": datetime(2024, 1, 1, 2, 3, 4, 5, UTC),
        "old": 86_400_000,
        "tags": ["a"],
    }
    broker.send(topic, [(None, avro(GROWN, {**row, **more}, 2)), (None, avro(ITEM, {**row, "id": 3}, 1))])
    caught_up(ingester)
    found = ingester.tables["ods.item"].scan().sort("id").select("id", "day", "at", "old", "tags").collect()
    assert found.rows() == [
        (1, None, None, None, None),
        (2, date(2024, 2, 29), datetime(2024, 1, 1, 2, 3, 4, 5), datetime(1970, 1, 2), ["a"]),
        (3, None, None, None, None),
    ]
    broker.send(topic, [(None, avro(ITEM, {**row, "id": 4, "name": "old"}, 1))])
    assert caught_up(ingester)[-1] == (4, "old", None, "u", False)


def test_a_registry_that_refuses_or_is_away(
    broker: KafkaBroker, topic: str, ingesting: Ingesting, registry: SchemaRegistry
) -> None:
    broker.send(topic, [(None, avro(ITEM, {"id": 1, "name": None, "price": None}, 77))])
    for other, error in [
        (registry, SourceMissing),
        (SchemaRegistry(url=registry.url, user="user", password="wrong"), SourceAccessDenied),
        (SchemaRegistry(url="http://127.0.0.1:1"), SourceUnavailable),
    ]:
        with pytest.raises(error, match="registry") as told:
            ingesting(format=AvroFormat(registry=other)).run_batch()
        assert "wrong" not in str(told.value)
        del told
        gc.collect()  # a connection left open would fail the test here


@pytest.mark.parametrize("is_avro", [False, True], ids=["json", "avro"])
def test_columns_may_have_the_names_of_what_is_told_of_changes(
    catalog: Catalog, broker: KafkaBroker, topic: str, is_avro: bool
) -> None:
    names = ["op", "deleted", "line", "source_file", "time_ms", "offset", "partition", "key", "value"]
    columns = {"id": "INT", **dict.fromkeys(names, "STRING")}
    catalog.execute(QUARANTINE_DDL)
    catalog.create_table("ods.task", columns, primary_key=["id"], options={"bucket": "1"})
    fields = [{"name": "id", "type": "int"}, *({"name": name, "type": "string"} for name in names)]
    schema = {"type": "record", "name": "Task", "fields": fields}
    chosen = AvroFormat(schemas={topic: schema}) if is_avro else "json"
    source = KafkaChanges(KafkaConnection(servers=broker.servers), format=chosen)
    ingester = Ingester(catalog, source, [Ingestion(source_table=topic, target="ods.task", added=())])
    tasks = [{"id": number, **dict.fromkeys(names, f"d{number}")} for number in (1, 2)]
    broker.send(topic, [(str(row["id"]), avro(schema, row) if is_avro else json.dumps(row)) for row in tasks])
    broker.send(topic, [("2", None)])
    while ingester.run_batch():
        pass
    assert ingester.tables["ods.task"].scan().collect().rows() == [(1, *["d1"] * len(names))]
    assert refused_lines(ingester.quarantine).is_empty()


def test_debezium_envelopes_in_avro_of_a_given_schema(broker: KafkaBroker, topic: str, ingesting: Ingesting) -> None:
    row = {"id": 1, "name": "tea", "price": Decimal("1.50")}
    changes = [{"op": "c", "before": None, "after": row}, {"op": "c", "before": None, "after": {**row, "id": 2}}]
    changes.append({"op": "d", "before": row, "after": None})
    broker.send(topic, [("k", avro(ENVELOPE, change)) for change in changes] + [("k", None)])
    broker.send(topic, [("k", avro(ENVELOPE, {"op": "x", "before": None, "after": row}))])
    ingester = ingesting(format=AvroFormat(schemas={topic: ENVELOPE}, envelope=True))
    assert caught_up(ingester) == [(1, "tea", "1.50", "d", True), (2, "tea", "1.50", "c", False)]
    assert refused_lines(ingester.quarantine)["reason"].to_list() == ["op is 'x', and its row there"]
    with pytest.raises(SourceSchemaChanged, match="no Avro schema is given"):
        ingesting(format=AvroFormat()).resnapshot(ingester.ingestions[0])

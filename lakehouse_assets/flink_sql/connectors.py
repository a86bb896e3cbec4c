"""``CREATE TABLE … WITH ('connector' = 'kafka' | 'mysql-cdc' | 'postgres-cdc' | 'filesystem')`` as a mirror that is ingested.

Flink's options are translated to those of the source; one that means something that the source does not do is refused.
Secrets do not stand in files: ``'password' = '${VARIABLE}'`` names an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.resources import (
    ChangesResource,
    KafkaResource,
    LandingResource,
    MySqlResource,
    PostgresResource,
)
from lakehouse_assets.sources.change_source import BOOKKEEPING
from storage_engine.errors import InvalidOption, Unsupported
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import TypeRoot

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PROPERTIES: Final = "properties."
_ADDED: Final = "lakehouse.added"
_KEPT_AS: Final = {"op": (TypeRoot.VARCHAR, TypeRoot.CHAR), "deleted": (TypeRoot.BOOLEAN,)}
"""Types of the columns that keep what is told of a change; another one is the source's own."""
_SECRET: Final = re.compile(r"password|secret|token|jaas|key$", re.IGNORECASE)
_FORMATS: Final[Mapping[str, str]] = {
    "json": "json",
    "debezium-json": "debezium-json",
    "avro-confluent": "avro",
    "debezium-avro-confluent": "debezium-avro",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A table's source: the resource that reads it, and the table's name there; ``options`` are left for the table.

    ``added``: columns that the source does not have; None: ``op`` and ``deleted``, if they have the types of what is told there.
    ``lenient``: members of JSON that are no columns are passed over, missing ones null.
    """

    changes: ChangesResource
    source_table: str
    options: Mapping[str, str]
    added: tuple[str, ...] | None = None
    lenient: bool = False

    def ingestion(self, target: str, schema: TableSchema, declared_at: str) -> Ingestion:
        """The ingestion that mirrors it. Raises InvalidOption for a table without a primary key, or that lacks what is added."""
        if not schema.primary_keys:
            raise InvalidOption(f"table {target} has no primary key: changes are upserted by one")
        columns = schema.by_name
        unknown = [name for name in self.added or () if name not in columns]
        if unknown:
            raise InvalidOption(f"option {_ADDED!r} names {', '.join(unknown)}, which {target} does not have")
        kept = tuple(name for name in BOOKKEEPING if name in columns and columns[name].type.root in _KEPT_AS[name])
        added = kept if self.added is None else self.added
        return Ingestion(
            source_table=self.source_table, target=target, added=added, lenient=self.lenient, declared_at=declared_at
        )


@dataclass(slots=True)
class _Options:
    """The options of a connector, each taken once; what is left belongs to the table, or is not known."""

    connector: str
    left: dict[str, str]
    used: set[str] = field(default_factory=set)

    def take(self, key: str, default: str | None = None) -> str:
        """The value of an option. Raises InvalidOption if it is missing."""
        value = self.left.pop(key, default)
        if value is None:
            raise InvalidOption(f"connector {self.connector!r} needs the option {key!r}")
        if _VARIABLE.search(value) and not _SECRET.search(key):
            raise InvalidOption(f"option {key!r} is {value!r}: only secrets stand in environment variables")
        return value

    def one_of(self, key: str, known: Mapping[str, str], default: str | None = None) -> str:
        """The translation of a value. Raises Unsupported for one that has none."""
        value = self.take(key, default)
        if value not in known:
            raise Unsupported(f"option {key!r} is {value!r}; what can be read: {', '.join(known)}")
        return known[value]

    def number(self, key: str, default: str) -> str:
        """The digits of a number. Raises InvalidOption for anything else."""
        value = self.take(key, default)
        if not value.isdecimal():
            raise InvalidOption(f"option {key!r} is {value!r}: expected a number")
        return value

    def variable(self, key: str) -> str:
        """The environment variable that holds a secret. Raises InvalidOption for a value that stands there itself."""
        found = _VARIABLE.fullmatch(self.take(key))
        if found is None:
            raise InvalidOption(f"option {key!r} holds a secret, which does not stand in a file: write '${{VARIABLE}}'")
        return found.group(1)

    def without_effect(self, *keys: str) -> None:
        """Options that say nothing here."""
        for key in keys:
            self.left.pop(key, None)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Raise Unsupported for options that mean what is not done."""
        for key, reason in reasons.items():
            if key in self.left:
                raise Unsupported(f"option {key!r}: {reason}")

    def rest(self, prefixes: tuple[str, ...]) -> dict[str, str]:
        """What belongs to the table. Raises Unsupported for what is the connector's."""
        for key in self.left:
            if key.startswith(prefixes):
                raise Unsupported(f"option {key!r} of connector {self.connector!r} has no meaning here: leave it out")
        return self.left


def connected(options: Mapping[str, str]) -> Connected | None:
    """The source that a table's options name; None for a table of the lakehouse. Raises InvalidOption and Unsupported."""
    name = options.get("connector", "paimon").strip().lower()
    if name == "paimon":
        return None
    if name not in _CONNECTORS:
        raise Unsupported(
            f"option 'connector' is {name!r}; tables are of the lakehouse, or mirrors of {', '.join(_CONNECTORS)}"
        )
    left = {key: value for key, value in options.items() if key not in ("connector", _ADDED)}
    found = _CONNECTORS[name](_Options(name, left))
    if _ADDED not in options:
        return found
    return replace(found, added=tuple(each.strip() for each in options[_ADDED].split(",") if each.strip()))


def _kafka(options: _Options) -> Connected:
    upserts = options.connector == "upsert-kafka"
    options.refuse(
        {
            "topic-pattern": "a table is one topic: write a table for each",
            "scan.startup.specific-offsets": "offsets stand in the table; start at earliest-offset, latest-offset or timestamp",
            "properties.sasl.jaas.config": "write 'properties.sasl.username' and 'properties.sasl.password'",
        }
    )
    topic = options.take("topic")
    if ";" in topic:
        raise Unsupported(f"option 'topic' is {topic!r}: a table is one topic: write a table for each")
    chosen = "json"
    if upserts:
        options.one_of("value.format", {"json": "json"})
        options.one_of("key.format", {"json": "json"})
    else:
        chosen = options.one_of("format" if "format" in options.left else "value.format", _FORMATS)
    registry = options.take(f"{_registry_prefix(chosen)}.url") if chosen.endswith("avro") else ""
    servers = options.take("properties.bootstrap.servers")
    options.without_effect(
        "properties.group.id", "json.ignore-parse-errors", "debezium-json.ignore-parse-errors",
        "json.timestamp-format.standard", "scan.topic-partition-discovery.interval",
    )  # fmt: skip
    start, lenient = _start(options), _is_lenient(options)
    settings = {
        key: options.take(key) for key in list(options.left) if key.startswith(_PROPERTIES) and not _SECRET.search(key)
    }
    secrets = {key: options.variable(key) for key in list(options.left) if key.startswith(_PROPERTIES)}
    changes = KafkaResource(
        servers=servers,
        format=chosen,
        start=start,
        registry=registry,
        settings={key.removeprefix(_PROPERTIES): value for key, value in settings.items()},
        secret_settings={key.removeprefix(_PROPERTIES): variable for key, variable in secrets.items()},
    )
    prefixes = ("scan.", "properties.", "json.", "debezium-", "avro-", "key.", "value.", "sink.", "topic")
    return Connected(changes=changes, source_table=topic, options=options.rest(prefixes), lenient=lenient)


def _is_lenient(options: _Options) -> bool:
    """Whether members of JSON may be missing, and others there: so it is in Flink."""
    return options.one_of("json.fail-on-missing-field", {"true": "", "false": "lenient"}, "false") == "lenient"


def _registry_prefix(chosen: str) -> str:
    return next(flink for flink, ours in _FORMATS.items() if ours == chosen)


def _start(options: _Options) -> str:
    modes = {"earliest-offset": "earliest", "latest-offset": "latest", "timestamp": "timestamp"}
    start = options.one_of("scan.startup.mode", modes, "earliest-offset")
    if start != "timestamp":
        return start
    key = "scan.startup.timestamp-millis"
    millis = options.take(key)
    try:
        return datetime.fromtimestamp(int(millis) / 1000, UTC).isoformat()
    except (ValueError, OverflowError) as cause:
        raise InvalidOption(f"option {key!r} is {millis!r}: expected milliseconds since 1970-01-01") from cause


def _mysql(options: _Options) -> Connected:
    _snapshot_first(options)
    options.one_of("server-time-zone", {"UTC": "UTC"}, "UTC")
    options.without_effect("server-id")
    changes = MySqlResource(
        host=options.take("hostname"),
        port=options.number("port", "3306"),
        user=options.take("username"),
        database=options.take("database-name"),
        password_variable=options.variable("password"),
    )
    return Connected(changes=changes, source_table=options.take("table-name"), options=options.rest(_CDC))


def _postgres(options: _Options) -> Connected:
    _snapshot_first(options)
    options.one_of("decoding.plugin.name", {"pgoutput": "pgoutput"}, "pgoutput")
    schema = options.take("schema-name", "public")
    table = options.take("table-name")
    changes = PostgresResource(
        host=options.take("hostname"),
        port=options.number("port", "5432"),
        user=options.take("username"),
        database=options.take("database-name"),
        slot=options.take("slot.name", "lakehouse"),
        publication=options.take("debezium.publication.name", "lakehouse"),
        password_variable=options.variable("password"),
    )
    source_table = table if schema == "public" else f"{schema}.{table}"
    return Connected(changes=changes, source_table=source_table, options=options.rest(_CDC))


def _snapshot_first(options: _Options) -> None:
    options.one_of("scan.startup.mode", {"initial": "initial"}, "initial")
    options.without_effect("scan.incremental.snapshot.enabled", "scan.incremental.snapshot.chunk.size")


def _files(options: _Options) -> Connected:
    path = options.take("path").rstrip("/")
    folder, _, table = path.rpartition("/")
    if not folder or not table:
        raise InvalidOption(f"option 'path' is {path!r}: the folder of a table's files within a landing folder")
    options.one_of("format", dict.fromkeys(("debezium-json", "json", "csv", "parquet"), ""))
    options.without_effect("source.monitor-interval", "json.ignore-parse-errors", "json.timestamp-format.standard")
    lenient = _is_lenient(options)
    return Connected(
        changes=LandingResource(folder=folder.removeprefix("file://")),
        source_table=table,
        options=options.rest(("source.", "sink.", "auto-compaction", "json.", "csv.")),
        lenient=lenient,
    )


_CDC: Final = ("scan.", "debezium.", "jdbc.", "connect", "heartbeat.", "server-", "chunk-", "slot.", "changelog-mode")
_CONNECTORS: Final[Mapping[str, Callable[[_Options], Connected]]] = {
    "kafka": _kafka,
    "upsert-kafka": _kafka,
    "mysql-cdc": _mysql,
    "postgres-cdc": _postgres,
    "filesystem": _files,
}

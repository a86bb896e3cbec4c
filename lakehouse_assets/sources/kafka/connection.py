"""How Kafka and a schema registry are reached, and their errors as errors of a source."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse_assets.extras import package
from lakehouse_assets.sources.errors import (
    SourceAccessDenied,
    SourceError,
    SourceMissing,
    SourcePositionLost,
    SourceUnavailable,
)
from storage_engine.errors import InvalidInput

TIMEOUT_S: Final = 15
# librdkafka's own errors, as its rdkafka.h numbers them.
AUTO_OFFSET_RESET: Final = -140
AUTHENTICATION: Final = -169
SSL: Final = -181
UNKNOWN_TOPIC: Final = -188
UNKNOWN_PARTITION: Final = -190
PARTITION_EOF: Final = -191
SECRET_WORDS: Final = ("password", "secret", "jaas", "token", ".pem", "key.pem")

_ALWAYS: Final[Mapping[str, object]] = {
    "group.id": "lakehouse",  # the driver wants one; no offset is ever committed to it, and no group joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
    "allow.auto.create.topics": False,
}
"""What exactly-once needs; a connection's own settings do not change it."""
_DEFAULTS: Final[Mapping[str, object]] = {
    "fetch.wait.max.ms": 20,
    "reconnect.backoff.ms": 250,
    "log_level": 0,
}


def driver() -> Any:
    """The module ``confluent_kafka``. Raises InvalidInput where it is not installed."""
    return package("confluent_kafka", extra="kafka")


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Where a cluster is, and how it is reached.

    ``servers``: ``host:port``, several by commas. ``settings``: what librdkafka calls its properties
    (``security.protocol``, ``sasl.mechanism``, …); ``secrets``: those whose values must not be seen.
    """

    servers: str
    settings: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        shown = [name for name in self.settings if any(word in name for word in SECRET_WORDS)]
        if shown:
            raise InvalidInput(f"Kafka setting {shown[0]} is a secret: give it by an environment variable")

    def client_settings(self) -> dict[str, object]:
        """The settings of the driver's clients."""
        return {**_DEFAULTS, **self.settings, **self.secrets, "bootstrap.servers": self.servers}

    def consumer_settings(self) -> dict[str, object]:
        """The settings of a consumer."""
        return {**self.client_settings(), **_ALWAYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRegistry:
    """A registry that speaks Confluent's interface; ``user`` and ``password`` are HTTP's basic authentication."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def schema(self, number: int) -> dict[str, Any]:
        """The Avro schema of a number. Raises SourceUnavailable, SourceMissing and SourceAccessDenied."""
        request = urllib.request.Request(  # noqa: S310 - the project's own address
            f"{self.url.rstrip('/')}/schemas/ids/{number}", headers={"Accept": "application/json"}
        )
        if self.user is not None:
            login = base64.b64encode(f"{self.user}:{self.password or ''}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            error.close()  # it holds the connection open
            raise self._refused(number, error.code) from None
        except (OSError, ValueError) as error:
            raise SourceUnavailable(f"the schema registry {self.url} is away: {error}") from None
        if found.get("schemaType", "AVRO") != "AVRO" or found.get("references"):
            raise SourceMissing(f"schema {number} of the registry {self.url} is no Avro schema of its own")
        schema: dict[str, Any] = json.loads(found["schema"])
        return schema

    def _refused(self, number: int, status: int) -> SourceError:
        if status in (401, 403):
            return SourceAccessDenied(f"the schema registry {self.url} refuses user {self.user!r} (HTTP {status})")
        if status == 404:
            return SourceMissing(f"the schema registry {self.url} has no schema {number}")
        return SourceUnavailable(f"the schema registry {self.url} answers HTTP {status}")


def source_error(error: Any, servers: str, what: str) -> SourceError:
    """An error of the driver as what its reader can do about it."""
    codes = driver().KafkaError
    code = error.code()
    if code in (AUTHENTICATION, codes.SASL_AUTHENTICATION_FAILED):
        return SourceAccessDenied(
            f"Kafka at {servers} refuses the user or its password; correct them in the environment"
        )
    if code in (codes.TOPIC_AUTHORIZATION_FAILED, codes.CLUSTER_AUTHORIZATION_FAILED):
        return SourceAccessDenied(f"the user may not read {what} of Kafka at {servers}: grant it READ and DESCRIBE")
    if code in (codes.UNKNOWN_TOPIC_OR_PART, UNKNOWN_TOPIC, UNKNOWN_PARTITION):
        return SourceMissing(f"Kafka at {servers} has no {what}: create it, or correct the ingestion's source_table")
    if code in (AUTO_OFFSET_RESET, codes.OFFSET_OUT_OF_RANGE):
        return SourcePositionLost(
            f"the offsets of {what} that come next are gone from Kafka at {servers}: take a new snapshot of its table"
            " (whole: true), and let the topic keep its messages for longer"
        )
    return SourceUnavailable(f"Kafka at {servers} is away ({what}: {error.str()}); the next run goes on")

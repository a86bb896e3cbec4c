"""How a PostgreSQL server is reached, and its errors as errors of a source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from lakehouse_assets.extras import package
from lakehouse_assets.sources.errors import (
    SourceAccessDenied,
    SourceError,
    SourceMissing,
    SourcePositionLost,
    SourceSchemaChanged,
    SourceUnavailable,
    SourceUnsupported,
)

CONNECT_TIMEOUT_S: Final = 10
_SESSION: Final = (
    "-c timezone=UTC -c datestyle=ISO -c intervalstyle=iso_8601 -c bytea_output=hex -c extra_float_digits=3"
    " -c client_encoding=UTF8 -c lock_timeout=60s"
)
"""What decides how values are told as texts."""

_REFUSED_LOGIN: Final = re.compile(
    r"authentication failed|no pg_hba\.conf entry|role .* does not exist|no password supplied"
)
_BY_STATE: Final[dict[str, tuple[type[SourceError], str]]] = {
    "28": (SourceAccessDenied, "the server refuses the user or its password"),
    "3D": (SourceMissing, "there is no such database"),
    "42501": (SourceAccessDenied, "the user may not do what is needed: grant it"),
    "42704": (
        SourceMissing,
        "the slot does not know what it was asked for. If the publication was made after the slot: run"
        " pg_drop_replication_slot, then take a new snapshot of each table (whole: true)",
    ),
    "42P01": (SourceMissing, "there is no such table"),
    "42703": (SourceSchemaChanged, "a table changed while it was read; the next run goes on"),
    "53400": (SourceUnsupported, "the server has no replication slot left: raise max_replication_slots"),
    "55000": (SourcePositionLost, "the replication slot cannot be read: take a new snapshot (whole: true)"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresConnection:
    """Where a database is, and as whom to reach it; ``sslmode`` is libpq's."""

    host: str
    port: int = 5432
    user: str
    password: str = field(repr=False)
    database: str
    sslmode: str = "prefer"

    @property
    def place(self) -> str:
        """Where it is, without the user."""
        return f"PostgreSQL {self.host}:{self.port}/{self.database}"

    @contextmanager
    def open(self, *, autocommit: bool = True) -> Iterator[Any]:
        """A psycopg connection for the length of a ``with``, in UTC. Server errors in it are raised as SourceError."""
        psycopg = package("psycopg", extra="postgres")
        try:
            with psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname=self.database,
                sslmode=self.sslmode,
                connect_timeout=CONNECT_TIMEOUT_S,
                options=_SESSION,
                application_name="lakehouse",
                autocommit=autocommit,
            ) as connection:
                yield connection
        except psycopg.Error as error:
            raise source_error(error, self.place) from None


def source_error(error: Any, place: str) -> SourceError:
    """An error of the driver as what its reader can do about it."""
    text = str(error).strip().replace("\n", " ")
    state = error.sqlstate or ""
    for prefix, (kind, told) in _BY_STATE.items():
        if state.startswith(prefix):
            return kind(f"{place}: {told} ({text})")
    if not state and _REFUSED_LOGIN.search(text):
        return SourceAccessDenied(f"{place}: the server refuses the user or its password ({text})")
    if not state and re.search(r'database ".*" does not exist', text):
        return SourceMissing(f"{place}: there is no such database ({text})")
    if not state or state[:2] in ("08", "53", "57") or state == "55P03":
        return SourceUnavailable(f"{place} is away; the next run goes on ({text})")
    return SourceError(f"{place} refused: {text}")

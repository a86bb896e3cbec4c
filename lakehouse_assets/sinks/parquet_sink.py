"""Parquet files as a sink, for BI tools that read files: one for the table, or one for each partition.

A file is replaced as a whole, so a reader sees the state of one snapshot or of another. Partitions are replaced one after
the other, only those that changed; the file ``_delivered.json`` tells, last of all, which snapshot all of them have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final
from urllib.parse import quote

import polars as pl

from lakehouse_assets.sinks.declaration import Delivered, Sink
from lakehouse_assets.sinks.sql_table import secret
from storage_engine import Table
from storage_engine.store.file_io import FileIO

STATE: Final = "_delivered.json"
FILE: Final = "data.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetSink:
    """A folder on any fsspec URL: ``<url>/<layer>/<table>/data.parquet``, or ``…/v_date=2024-01-01/data.parquet``.

    ``options`` are fsspec's; ``secret_options``: option → environment variable that holds its value.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret_options: Mapping[str, str] = field(default_factory=dict)
    compression: str = "zstd"

    @property
    def kind(self) -> str:
        """What it is."""
        return "parquet"

    @property
    def place(self) -> str:
        """Where it is."""
        return self.url

    @contextmanager
    def session(self, sink: Sink, table: Table) -> Iterator[_Session]:  # noqa: ARG002 - a folder has one sink
        """An export; what was written stays if it is not finished, and is written again."""
        options = {**self.options, **{name: secret(variable) for name, variable in self.secret_options.items()}}
        io, root = FileIO.from_url(self.url, options)
        yield _Session(io, f"{root}/{table.name.replace('.', '/')}", self, table)


@dataclass(slots=True)
class _Session:
    io: FileIO
    folder: str
    to: ParquetSink
    table: Table

    def delivered(self) -> Delivered | None:
        path = f"{self.folder}/{STATE}"
        if not self.io.exists(path):
            return None
        told: dict[str, Any] = json.loads(self.io.read_bytes(path))
        return Delivered(snapshot=told["snapshot"], committed_ms=told["committed_ms"])

    def load(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> int:  # noqa: ARG002 - a file has one order
        parts = self._parts(rows)
        height = sum(self._write(part, rows) for part in parts)
        kept = {self._file(part) for part in parts}
        for found in self.io.list_files(self.folder, recursive=True):
            if found.path.endswith(f"/{FILE}") and found.path not in kept:
                self.io.delete(found.path)
        return height

    def apply(self, portions: Iterable[pl.DataFrame], rows: pl.LazyFrame) -> None:
        touched = [part for changes in portions if changes.height for part in self._parts(changes.lazy())]
        for file, part in {self._file(part): part for part in touched}.items():
            if not self._write(part, rows) and part:
                self.io.delete(file)

    def finish(self, delivered: Delivered) -> None:
        told = {"snapshot": delivered.snapshot, "committed_ms": delivered.committed_ms}
        self.io.overwrite(f"{self.folder}/{STATE}", json.dumps(told).encode())

    def _parts(self, rows: pl.LazyFrame) -> list[dict[str, Any]]:
        """The partitions of some rows; a table without partitions is one."""
        keys = list(self.table.schema.partition_keys)
        return rows.select(keys).unique().sort(keys).collect().to_dicts() if keys else [{}]

    def _file(self, part: Mapping[str, Any]) -> str:
        names = [f"{quote(name, safe='')}={quote(str(value), safe='')}" for name, value in part.items()]
        return "/".join([self.folder, *names, FILE])

    def _write(self, part: Mapping[str, Any], rows: pl.LazyFrame) -> int:
        """Replace a partition's file by its rows, sorted by the key; the number of rows."""
        own = [pl.col(name).eq_missing(pl.lit(value)) for name, value in part.items()]
        frame = (
            rows.filter(own).sort(list(self.table.schema.primary_keys) or pl.all()).collect() if own else rows.collect()
        )
        content = BytesIO()
        frame.write_parquet(content, compression=self.to.compression)  # type: ignore[arg-type]
        self.io.overwrite(self._file(part), content.getvalue())
        return frame.height

"""A commit whose work several processes share: what each of them prepares, and one of them commits.

Spec: ``BatchTableWrite`` and ``prepareCommit`` of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import polars as pl

from storage_engine.errors import InvalidInput, InvalidRows, Unsupported
from storage_engine.kernel.bucket import fixed_bucket
from storage_engine.kernel.conform import UserFrame, conform
from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.schema import TableSchema
from storage_engine.store.table_store import TableStore
from storage_engine.write.requests import Committer, written_names
from storage_engine.write.table_write import TableWrite

_DYNAMIC = -1


class BatchWrite:
    """Rows that are written here and committed elsewhere. A context: without ``prepare_commit`` its files are removed.

    REQUIRES: ``prepare_commit`` is the last call.
    """

    def __init__(self, writer: TableWrite, store: TableStore, schema: TableSchema, *, table: str) -> None:
        if schema.primary_keys and schema.table_options.bucket == _DYNAMIC:
            raise Unsupported(
                f"table {table}: its buckets are assigned by one writer at a time; set 'bucket' to a positive number,"
                " or to -2, to share the work"
            )
        self._buffer = writer.new_buffer(Committer().named())
        self._store = store
        self._schema = schema
        self._table = table
        self._rows = 0
        self._prepared = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._prepared:
            self._buffer.discard()

    def write(self, frame: UserFrame) -> None:
        """Add rows, as ``Table.write`` takes them; what the memory budget cannot hold becomes files. Raises InvalidRows."""
        if self._prepared:
            raise InvalidInput(f"table {self._table}: this write is prepared already; begin a new one")
        try:
            conformed = conform(frame, self._schema, table=self._table, first_row=self._rows)
        except InvalidRows:
            self._buffer.discard()
            raise
        self._rows += conformed.height
        self._buffer.add(conformed)

    def prepare_commit(self) -> list[CommitMessage]:
        """Write the rest, make all of it durable; gives what ``Table.commit`` needs, one message for each bucket."""
        messages = self._buffer.finish()
        self._store.io.sync(written_names(messages))
        self._prepared = True
        return messages


def bucket_of(frame: pl.DataFrame, schema: TableSchema, *, table: str) -> pl.Series:
    """The bucket of each row of a frame that has the key columns. Raises Unsupported where the key does not tell."""
    buckets = schema.table_options.bucket
    if buckets < 1:
        raise Unsupported(f"table {table}: option 'bucket' is {buckets}: the bucket does not follow from the key")
    if buckets == 1:
        return pl.zeros(frame.height, pl.Int32, eager=True).alias("bucket")
    typed = frame.with_columns(frame.get_column(name).cast(schema.polars_schema[name]) for name in schema.bucket_keys)
    return fixed_bucket(typed, schema).cast(pl.Int32).alias("bucket")

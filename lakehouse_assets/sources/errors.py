"""What can go wrong with a source, by what the reader of the error does next."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from storage_engine.errors import StorageEngineError


class SourceError(StorageEngineError):
    """A source cannot be read as asked. ``table``: the one that it stops, by the source's name; None: all of the source."""

    def __init__(self, *told: object, table: str | None = None) -> None:
        super().__init__(*told)
        self.table = table


class SourceUnavailable(SourceError, OSError):
    """The source is away or went away: try again later, from the same position."""


class SourcePositionLost(SourceError, LookupError):
    """The source no longer has the changes after the position: take a new snapshot."""


class SourceSchemaChanged(SourceError):
    """A table of the source is not what the position's changes belong to: take a new snapshot."""


class SourceColumnsDiffer(SourceSchemaChanged):
    """A table of the source has other columns than its target.

    ``found``: the table's columns now. ``filled``: columns that rows of before have values in,
    which no change tells (a column that was added with a default). ``file``: the one that has these columns, if the source
    is made of files.
    """

    table: str

    def __init__(
        self,
        table: str,
        *,
        found: Mapping[str, pl.DataType],
        expected: Mapping[str, pl.DataType],
        target: str,
        filled: bool = False,
        file: str | None = None,
    ) -> None:
        where = f"table {table}" if file is None else f"file {file}"
        super().__init__(
            f"{where} has the columns {_listed(found)}; its target expects {_listed(expected)}. Nothing of it was read. Run"
            f" ALTER TABLE {target} …{'' if file is None else ', or land the file again with the columns of the table'}",
            table=table,
        )
        self.found = dict(found)
        self.filled = filled
        self.file = file


def _listed(columns: Mapping[str, pl.DataType]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in columns.items())


class SourceMissing(SourceError, LookupError):
    """The source is there, but it has no such table, topic, database or schema: create it, or correct the name."""


class SourceAccessDenied(SourceError, PermissionError):
    """The source refuses the user or the password, or the user may not do what is needed: grant it, then run again."""


class SourceUnsupported(SourceError, NotImplementedError):
    """The source is set up in a way, or has a type, that cannot be read exactly: change the source."""

"""Every error the engine raises on purpose, as one tree.

::

    StorageEngineError
    ├── InvalidInput                 the call is wrong: fix the arguments
    │   ├── InvalidSchema            a table definition or a schema change
    │   ├── InvalidOption            an option's value, or options that contradict each other
    │   ├── InvalidRows              a frame that does not fit the table: nothing was written
    │   └── SqlError                 a statement that cannot be parsed or run
    ├── Unsupported                  right in Paimon, not done (or refused) here
    ├── NotFound                     look at the name
    │   ├── DatabaseNotFound, TableNotFound, SnapshotNotFound, TagNotFound, BranchNotFound
    │   ├── FileMissing              a file that metadata names, or that was asked for, is not there
    │   └── SnapshotExpired          it was there, and was expired
    ├── AlreadyExists                database, table, tag or branch
    ├── CorruptFile                  a file is damaged, truncated or foreign: restore it
    ├── CommitConflict               somebody else's commit made this one impossible: read again, retry
    │   └── OffsetConflict           a stream's offset is not the expected one
    ├── CommitUnfinished             the rows are committed, their compaction is not: settle(), never write them again
    ├── CommitStateUnknown           the store did not tell whether the snapshot was created: look, then retry
    └── StorageUnavailable           the file system refused, is full or is away

A caller catches ``StorageEngineError`` for all of them, or the leaf that it can act on.
"""

from __future__ import annotations


class StorageEngineError(Exception):
    """Root of every error the engine raises on purpose."""


class InvalidInput(StorageEngineError, ValueError):
    """The arguments are wrong; nothing was written."""


class InvalidSchema(InvalidInput):
    """A table definition or schema change that cannot be had."""


class InvalidOption(InvalidInput):
    """An option with a bad value, or options that contradict each other."""


class InvalidRows(InvalidInput):
    """A frame that does not fit its table. The message names column, row and value; nothing was written."""


class SqlError(InvalidInput):
    """A statement that cannot be parsed or run."""


class Unsupported(StorageEngineError, NotImplementedError):
    """Exists in Paimon but is not done here, or is refused since it would read wrong."""


class NotFound(StorageEngineError, LookupError):
    """The named thing does not exist."""


class DatabaseNotFound(NotFound):
    """No such database in the warehouse."""


class TableNotFound(NotFound):
    """No such table in the database."""


class SnapshotNotFound(NotFound):
    """The table has no such snapshot."""


class SnapshotExpired(SnapshotNotFound):
    """The snapshot existed and was removed by expiry: start again from a retained one."""


class TagNotFound(NotFound):
    """The table has no such tag."""


class BranchNotFound(NotFound):
    """The table has no such branch."""


class FileMissing(NotFound):
    """No such file. The message names it."""


class AlreadyExists(StorageEngineError):
    """A database, table, tag or branch of that name exists."""


class CorruptFile(StorageEngineError):
    """A file is damaged, truncated, of another version or foreign. The message names it."""


class CommitConflict(StorageEngineError):
    """Another commit removed or replaced what this one was based on. Nothing became visible."""


class OffsetConflict(CommitConflict):
    """The last committed identifier of a user is not the one the caller expected."""


class CommitUnfinished(StorageEngineError):
    """The rows are committed, but the compaction that makes them readable, or writes their changelog, failed.

    Call ``settle()``, or repeat the call with the same user and identifier.
    """


class CommitStateUnknown(StorageEngineError):
    """The store did not tell whether the snapshot exists. Retry with the same user and identifier."""


class StorageUnavailable(StorageEngineError, OSError):
    """The file system refused an operation (permission, space, connection)."""


def told(error: BaseException) -> str:
    """What an error says, with its notes, which those that it passed have added: what it was that failed."""
    notes: list[str] = getattr(error, "__notes__", [])
    return f"{error} ({'; '.join(notes)})" if notes else str(error)

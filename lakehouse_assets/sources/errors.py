"""What can go wrong with a source, by what the reader of the error does next."""

from __future__ import annotations

from storage_engine.errors import StorageEngineError


class SourceError(StorageEngineError):
    """A source cannot be read as asked."""


class SourceUnavailable(SourceError, OSError):
    """The source is away or went away: try again later, from the same position."""


class SourcePositionLost(SourceError, LookupError):
    """The source no longer has the changes after the position: take a new snapshot."""


class SourceSchemaChanged(SourceError):
    """A table of the source is not what the position's changes belong to: take a new snapshot."""


class SourceUnsupported(SourceError, NotImplementedError):
    """The source is set up in a way, or has a type, that cannot be read exactly: change the source."""

"""What can go wrong with a stream, by what its owner does next."""

from __future__ import annotations

from storage_engine.errors import CommitConflict, InvalidInput, SnapshotExpired, StorageEngineError


class StreamError(StorageEngineError):
    """A stream cannot go on as it is."""


class InvalidStream(StreamError, InvalidInput):
    """A declaration that does not fit its tables."""


class ChangesExpired(StreamError, SnapshotExpired):
    """The source no longer has the changes that come next: repair the whole target."""


class SourceRewound(StreamError):
    """The source is behind what was consumed (rolled back, or dropped and made again): repair the whole target."""


class StreamBusy(StreamError, CommitConflict):
    """Other runs of the stream were faster every time. Nothing is lost; try again."""

"""What stopped tables of a log, so that the log is not read again and again for them only to stop at the same place."""

from __future__ import annotations

from traceback import clear_frames
from typing import Final

from lakehouse_assets.sources.errors import SourceError, SourceSchemaChanged, SourceUnsupported

LASTING: Final = (SourceSchemaChanged, SourceUnsupported)
"""What a part of a log, which never changes, gives whenever it is read for the same table."""


class KnownTroubles:
    """By table, the trouble that it ran into, and its cause: all that the trouble depends on."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, SourceError]] = {}

    def __contains__(self, table: str) -> bool:
        return table in self._known

    def note(self, table: str, cause: object, error: SourceError) -> None:
        """Keep what stopped a table, if it lasts."""
        if isinstance(error, LASTING):
            self._known[table] = (cause, error)
            for each in (error, error.__cause__, error.__context__):
                if each is not None:
                    clear_frames(each.__traceback__)  # they hold what was read

    def check(self, table: str, cause: object) -> None:
        """Raise the trouble that a table has run into by the same cause; one of another cause is forgotten."""
        known = self._known.get(table)
        if known is None:
            return
        if known[0] == cause:
            raise known[1].with_traceback(None)
        del self._known[table]

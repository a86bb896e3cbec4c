"""What a stream has consumed, as it stands in the target's own snapshots.

Each commit of a stream has the next identifier (1, 2, 3, …) and, in its properties, the position in every source:
for a table the id of the last snapshot that was read, for other sources what they call their position.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from storage_engine import Table
from storage_engine.errors import CorruptFile

SOURCES_PROPERTY: Final = "lakehouse.sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """The last commit of a user in a table: its identifier (None: there is none), and the position in each source."""

    identifier: int | None = None
    positions: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def next_identifier(self) -> int:
        """The identifier of the commit that comes next."""
        return 1 if self.identifier is None else self.identifier + 1

    def snapshot(self, source: str) -> int | None:
        """The last snapshot that was read of a source table, None if it was never read."""
        position = self.positions.get(source)
        return None if position is None else int(position)

    @staticmethod
    def of(table: Table, user: str) -> Consumed:
        """What a user has consumed, by the table's newest snapshot. Raises CorruptFile for a damaged property."""
        identifier = table.last_committed(user)
        text = table.committed_properties(user).get(SOURCES_PROPERTY, "{}")
        try:
            positions = json.loads(text)
        except ValueError as cause:
            raise CorruptFile(f"table {table.name}: {SOURCES_PROPERTY} of {user!r} is no JSON: {text!r}") from cause
        if not isinstance(positions, dict):
            raise CorruptFile(f"table {table.name}: {SOURCES_PROPERTY} of {user!r} is no JSON object: {text!r}")
        return Consumed(identifier=identifier, positions=positions)


def properties(positions: Mapping[str, int | str]) -> dict[str, str]:
    """The snapshot properties that hold positions."""
    return {SOURCES_PROPERTY: json.dumps(dict(positions), sort_keys=True)}

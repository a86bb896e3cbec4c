"""How far a stream has read each of its sources: kept in the target's own snapshot, together with the rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage_engine import Table

SOURCES = "lakehouse.sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOffsets:
    """``identifier``: number of the stream's last commit, None before the first; ``snapshots``: consumed, by source table."""

    identifier: int | None
    snapshots: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def read(target: Table, user: str) -> StreamOffsets:
        """What the target's newest snapshot says."""
        text = target.committed_properties(user).get(SOURCES, "{}")
        snapshots = {str(table): int(snapshot) for table, snapshot in json.loads(text).items()}
        return StreamOffsets(identifier=target.last_committed(user), snapshots=snapshots)

    @property
    def next_identifier(self) -> int:
        """The identifier of the commit that follows."""
        return 0 if self.identifier is None else self.identifier + 1


def properties_of(snapshots: Mapping[str, int]) -> dict[str, str]:
    """The snapshot properties that keep consumed snapshots."""
    return {SOURCES: json.dumps(dict(snapshots), sort_keys=True)}

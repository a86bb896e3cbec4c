"""Stream offsets inside snapshots: what each commit user has committed, carried forward so that expiry never forgets
it.

A snapshot's own ``commitUser`` and ``commitIdentifier`` are Paimon's record of it. Since old snapshots expire, and
other engines' snapshots carry no properties of ours, each commit of this engine also writes, for every user that it
knows:

- ``lakehouse.offset.<user>``: the highest identifier committed by that user
- ``lakehouse.properties.<user>``: the properties of that commit, as JSON
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from storage_engine.errors import OffsetConflict
from storage_engine.spec.snapshot import BATCH_COMMIT_IDENTIFIER, Snapshot
from storage_engine.store.snapshots import SnapshotStore

OFFSET_PREFIX = "lakehouse.offset."
PROPERTIES_PREFIX = "lakehouse.properties."
CARRIED = "lakehouse.carried"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offsets:
    """Highest identifier and last properties of each user; ``properties`` is what a snapshot keeps of them."""

    identifiers: Mapping[str, int] = field(default_factory=dict)
    user_properties: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @staticmethod
    def read(snapshots: SnapshotStore, latest: Snapshot | None) -> Offsets:
        """Walk back from the latest snapshot to the nearest that carries the offsets of all before it."""
        newer: list[Snapshot] = []
        earliest: int | None = None
        current = latest
        while current is not None and CARRIED not in current.properties:
            earliest = earliest or snapshots.earliest_id() or current.id
            newer.append(current)
            current = snapshots.get(current.id - 1) if current.id > earliest else None
        identifiers, user_properties = ({}, {}) if current is None else _parse(current.properties)
        for snapshot in reversed(newer):
            user, identifier = snapshot.commit_user, snapshot.commit_identifier
            if identifier != BATCH_COMMIT_IDENTIFIER and identifier >= identifiers.get(user, -1):
                identifiers[user] = identifier
                user_properties[user] = dict(snapshot.properties)
        return Offsets(identifiers=identifiers, user_properties=user_properties)

    @property
    def properties(self) -> dict[str, str]:
        """The snapshot properties that carry these offsets."""
        carried = {OFFSET_PREFIX + user: str(identifier) for user, identifier in self.identifiers.items()}
        kept = {
            PROPERTIES_PREFIX + user: json.dumps(dict(values), sort_keys=True)
            for user, values in self.user_properties.items()
            if values
        }
        return {**carried, **kept, CARRIED: "true"}


def _parse(properties: Mapping[str, str]) -> tuple[dict[str, int], dict[str, Mapping[str, str]]]:
    identifiers = {
        key.removeprefix(OFFSET_PREFIX): int(value)
        for key, value in properties.items()
        if key.startswith(OFFSET_PREFIX)
    }
    user_properties = {
        key.removeprefix(PROPERTIES_PREFIX): json.loads(value)
        for key, value in properties.items()
        if key.startswith(PROPERTIES_PREFIX)
    }
    return identifiers, user_properties


def carried_properties(offsets: Offsets, user: str, identifier: int, properties: Mapping[str, str]) -> dict[str, str]:
    """A snapshot's properties: the caller's own, and everybody's offsets including this commit's.

    The compaction of a commit may come after the user's next commit; it never takes the offset back.
    """
    if identifier == BATCH_COMMIT_IDENTIFIER or identifier < offsets.identifiers.get(user, identifier):
        return {**properties, **offsets.properties}
    advanced = Offsets(
        identifiers={**offsets.identifiers, user: identifier},
        user_properties={**offsets.user_properties, user: dict(properties)},
    )
    return {**properties, **advanced.properties}


def check_expected(offsets: Offsets, expected: Mapping[str, int | None], *, table: str) -> None:
    """Raise OffsetConflict unless each user's last identifier is the expected one."""
    for user, identifier in expected.items():
        found = offsets.identifiers.get(user)
        if found != identifier:
            raise OffsetConflict(
                f"table {table}: user {user!r} last committed {found}, expected {identifier}:"
                f" another run committed in between;"
                " resolve the range again from last_committed()"
            )

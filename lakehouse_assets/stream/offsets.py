"""What a stream has consumed, as it stands in the target's own snapshots.

Each commit of a stream has the next identifier (1, 2, 3, …) and, in its properties, the position in every source:
for a table the id of the last snapshot that was read, for other sources what they call their position.

A snapshot that is too large for one batch is consumed in portions: until the last of them, the position stays before it, and a
property of its own tells how many were consumed. Meanwhile the position is written as a text that is no number, so that versions
which know nothing of portions fail at it, and do not read again what was consumed.

Several streams may fill one target, each under a user of its own. A repair of all of them at once commits where each goes on,
beside the identifier that it had: that counts until the stream's next commit.

Who looks at the table alone cannot tell a stream that stands still from one that is declared no more. So each commit notes which
parts of the target were declared, under a number that grows when they change: what stands under the highest one counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.place import Place
from storage_engine import Table
from storage_engine.errors import CorruptFile, Unsupported
from storage_engine.write.offsets import Offsets

SOURCES_PROPERTY: Final = "lakehouse.sources"
DRIVING_PROPERTY: Final = "lakehouse.driving"
RESET_PROPERTY: Final = "lakehouse.reset"
PORTION_PROPERTY: Final = "lakehouse.portion"
PARTS_PROPERTY: Final = "lakehouse.parts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """The parts of a target that were declared with its ``number``-th declaration; none: nobody has noted any."""

    number: int = 0
    parts: frozenset[str] = frozenset()

    @staticmethod
    def of(table: Table, offsets: Offsets) -> Declared:
        """The last that was noted. Raises CorruptFile for a damaged property."""
        documents = [_document(table, offsets, user, PARTS_PROPERTY) for user in offsets.identifiers]
        noted = [Declared(number=each["number"], parts=frozenset(each["parts"])) for each in documents if each]
        number = max((each.number for each in noted), default=0)
        parts = [each.parts for each in noted if each.number == number]
        return Declared(number=number, parts=frozenset().union(*parts))

    def then(self, stream: Stream) -> Declared:
        """What a commit of a stream notes: the parts that it knows, or itself beside those that were noted."""
        alone = {*self.parts, stream.part or stream.source} if self.parts else ()
        now = frozenset(stream.parts or alone)
        return self if now == self.parts else Declared(number=self.number + 1, parts=now)

    def document(self) -> dict[str, Any]:
        """As it stands in a property."""
        return {"number": self.number, "parts": sorted(self.parts)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """The last commit of a user in a table: its identifier (None: there is none), and the position in each source.

    ``beside``: the identifiers of others who write the same rows, at that moment. ``within``: the place inside the snapshot that
    comes next, if a part of it was consumed. ``declared``: the parts of the table that were noted last.
    """

    user: str = ""
    identifier: int | None = None
    positions: Mapping[str, int | str] = field(default_factory=dict)
    beside: Mapping[str, int | None] = field(default_factory=dict)
    within: Place | None = None
    declared: Declared = field(default_factory=Declared)

    @property
    def next_identifier(self) -> int:
        """The identifier of the commit that comes next."""
        return 1 if self.identifier is None else self.identifier + 1

    @property
    def expected(self) -> dict[str, int | None]:
        """What must not have moved when something is committed that was computed from here."""
        return {**self.beside, self.user: self.identifier}

    def snapshot(self, source: str) -> int | None:
        """The last snapshot that was read of a source table, None if it was never read. Raises Unsupported for a position of
        another form.
        """
        position = self.positions.get(source)
        try:
            return None if position is None else int(position)
        except ValueError as cause:
            raise Unsupported(_unknown(self.user, f"the position {position!r} in {source}")) from cause

    @staticmethod
    def of(table: Table, user: str) -> Consumed:
        """What a user has consumed, by the table's newest snapshot. Raises CorruptFile for a damaged property."""
        return _consumed(table, table.offsets(), user)

    @staticmethod
    def of_stream(table: Table, stream: Stream) -> Consumed:
        """What a stream has consumed, under the name that it has or had. Raises CorruptFile for a damaged property."""
        offsets = table.offsets()
        user = _user_of(table, offsets, stream)
        others = {stream.name, stream.former_name, stream.repairer, stream.resetter} - {user, None}
        beside = {other: offsets.identifiers.get(other) for other in others if other is not None}
        found = _consumed(table, offsets, user)
        return replace(found, beside=beside, declared=Declared.of(table, offsets))

    @staticmethod
    def of_target(table: Table) -> dict[str, Consumed]:
        """What each stream into a table has consumed, by commit user, without those that were declared no more at the last
        commit. Raises CorruptFile for a damaged property.
        """
        offsets, only = table.offsets(), f"stream-{table.name}"
        parts, known = Declared.of(table, offsets).parts, {}
        for user in offsets.identifiers:
            if user == only or user.startswith(f"{only}@"):
                own = offsets.user_properties.get(user, {}).get(DRIVING_PROPERTY)
                known[user] = own if user == only else user.removeprefix(f"{only}@")
        users = [user for user, part in known.items() if not parts or part is None or part in parts]
        return {user: _consumed(table, offsets, user) for user in users}


def properties(
    positions: Mapping[str, int | str],
    *,
    driving: str | None = None,
    within: Place | None = None,
    declared: Declared | None = None,
) -> dict[str, str]:
    """The snapshot properties that hold positions; ``driving``: the source that drives the stream."""
    inside = {} if within is None else {within.source: f"{within.after}, inside of snapshot {within.until}"}
    held = {SOURCES_PROPERTY: json.dumps({**positions, **inside}, sort_keys=True)}
    if driving is not None:
        held[DRIVING_PROPERTY] = driving
    if within is not None:
        held[PORTION_PROPERTY] = json.dumps(within.document(), sort_keys=True)
    if declared is not None and declared.parts:
        held[PARTS_PROPERTY] = json.dumps(declared.document(), sort_keys=True)
    return held


def reset_properties(moved: Iterable[tuple[Consumed, Mapping[str, int | str]]]) -> dict[str, str]:
    """The snapshot properties of a repair that moves several streams: where each goes on, if it has not committed since."""
    held = {
        consumed.user: {"identifier": consumed.identifier, "positions": dict(positions)}
        for consumed, positions in moved
    }
    return {RESET_PROPERTY: json.dumps(held, sort_keys=True)}


def _user_of(table: Table, offsets: Offsets, stream: Stream) -> str:
    """The user under which a stream commits: its name, unless it began under the other one."""
    former = stream.former_name
    if former is None or former not in offsets.identifiers or _drives(table, offsets, stream.name, stream):
        return stream.name
    return former if _drives(table, offsets, former, stream) else stream.name


def _drives(table: Table, offsets: Offsets, user: str, stream: Stream) -> bool:
    """Whether a user's commits are those of a stream from the same source; the oldest ones name no driving source."""
    told = offsets.user_properties.get(user, {}).get(DRIVING_PROPERTY)
    if told is not None:
        return told == stream.source
    return set(_consumed(table, offsets, user).positions) == set(stream.sources)


def _consumed(table: Table, offsets: Offsets, user: str) -> Consumed:
    identifier = offsets.identifiers.get(user)
    reset = _document(table, offsets, f"reset-{table.name}", RESET_PROPERTY).get(user)
    if reset is not None and reset["identifier"] == identifier:
        return Consumed(user=user, identifier=identifier, positions=reset["positions"])
    positions, within = _document(table, offsets, user, SOURCES_PROPERTY), _place(table, offsets, user)
    if within is not None:
        positions = {**positions, within.source: within.after}
    return Consumed(user=user, identifier=identifier, positions=positions, within=within)


def _place(table: Table, offsets: Offsets, user: str) -> Place | None:
    document = _document(table, offsets, user, PORTION_PROPERTY)
    try:
        return Place.of(document)
    except TypeError as cause:
        raise Unsupported(f"table {table.name}: {_unknown(user, f'{PORTION_PROPERTY} {document}')}") from cause


def _unknown(user: str, what: str) -> str:
    return (
        f"{what} of {user!r} is of a form that this version does not know: let the version that wrote it finish the snapshot"
        " first (nothing was read or written)"
    )


def _document(table: Table, offsets: Offsets, user: str, name: str) -> dict[str, Any]:
    text = offsets.user_properties.get(user, {}).get(name, "{}")
    try:
        found = json.loads(text)
    except ValueError as cause:
        raise CorruptFile(f"table {table.name}: {name} of {user!r} is no JSON: {text!r}") from cause
    if not isinstance(found, dict):
        raise CorruptFile(f"table {table.name}: {name} of {user!r} is no JSON object: {text!r}")
    return found

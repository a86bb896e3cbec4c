"""The messages of PostgreSQL's ``pgoutput`` plugin (protocol 1) as transactions of row images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from lakehouse_assets.sources.errors import SourceUnsupported

EPOCH_US: Final = round(datetime(2000, 1, 1, tzinfo=UTC).timestamp() * 1_000_000)
Image = list[str | None]


@dataclass(frozen=True, slots=True, eq=False)
class Relation:
    """A table as it was when its rows were written."""

    table: str
    columns: tuple[str, ...]


@dataclass(slots=True)
class Images:
    """Changes of one table, in order, while its columns stayed the same.

    An insert has its row, and a delete its last row, in both ``befores`` and ``afters``.
    """

    relation: Relation
    ops: list[str] = field(default_factory=list)
    befores: list[Image] = field(default_factory=list)
    afters: list[Image] = field(default_factory=list)


@dataclass(slots=True)
class Transaction:
    """A committed transaction. ``end``: the position behind it; ``images``: by table, anew where its columns changed.

    ``emptied``: tables that it truncated; only what came afterwards is in ``images``. ``untold``: tables of which it does not
    tell all, and what is lacking.
    """

    number: int
    end: int = 0
    committed_ms: int = 0
    images: dict[str, list[Images]] = field(default_factory=dict)
    emptied: set[str] = field(default_factory=set)
    untold: dict[str, str] = field(default_factory=dict)

    def concerns(self, table: str) -> bool:
        """Whether it changed a table."""
        return table in self.images or table in self.emptied or table in self.untold


class _Reader:
    """Takes numbers, names and rows from the bytes of a message."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 1

    def number(self, size: int) -> int:
        start, self._at = self._at, self._at + size
        return int.from_bytes(self._content[start : self._at], signed=True)

    def letter(self) -> bytes:
        self._at += 1
        return self._content[self._at - 1 : self._at]

    def name(self) -> str:
        end = self._content.index(b"\0", self._at)
        start, self._at = self._at, end + 1
        return self._content[start:end].decode()

    def image(self, unchanged: Image | None = None) -> Image:
        """A row; a large value that an update did not touch is taken from the row before."""
        content, at = self._content, self._at + 2
        row: Image = []
        for place in range(int.from_bytes(content[self._at : at])):
            kind = content[at]
            at += 1
            if kind == _TEXT:
                size = int.from_bytes(content[at : at + 4])
                row.append(content[at + 4 : at + 4 + size].decode())
                at += 4 + size
            elif kind == _NULL:
                row.append(None)
            elif unchanged is None:
                raise SourceUnsupported("a row is told without its large values")
            else:
                row.append(unchanged[place])
        self._at = at
        return row


_TEXT, _NULL = b"tn"
_OPS: Final = {b"I": "c", b"U": "u", b"D": "d"}


def transactions(messages: Iterable[bytes]) -> Iterator[Transaction]:
    """The transactions of whole messages."""
    relations: dict[int, Relation] = {}
    current = Transaction(number=0)
    for content in messages:
        kind, reader = content[:1], _Reader(content)
        if kind in _OPS:
            relation = relations[reader.number(4)]
            try:
                _add(current, kind, reader, relation)
            except SourceUnsupported as error:
                current.untold[relation.table] = str(error)
        elif kind == b"B":
            reader.number(16)
            current = Transaction(number=reader.number(4) & 0xFFFFFFFF)
        elif kind == b"C":
            reader.number(9)
            current.end = reader.number(8)
            current.committed_ms = (reader.number(8) + EPOCH_US) // 1000
            yield current
        elif kind == b"R":
            number, relation = _relation(reader)
            relations[number] = relation
        elif kind == b"T":
            _empty(current, reader, relations)


def _relation(reader: _Reader) -> tuple[int, Relation]:
    number, schema, name = reader.number(4), reader.name(), reader.name()
    reader.letter()
    columns: list[str] = []
    for _ in range(reader.number(2)):
        reader.letter()
        columns.append(reader.name())
        reader.number(8)
    return number, Relation(f"{schema}.{name}", tuple(columns))


def _add(current: Transaction, kind: bytes, reader: _Reader, relation: Relation) -> None:
    before: Image | None = None
    side = reader.letter()
    if side == b"K" or (side == b"N" and kind == b"U"):
        raise SourceUnsupported("a change is told without the row before")
    if side == b"O":
        before = reader.image()
        side = reader.letter() if kind == b"U" else side
    after = before if kind == b"D" else reader.image(before)
    segments = current.images.setdefault(relation.table, [])
    if not segments or segments[-1].relation is not relation:
        segments.append(Images(relation))
    images = segments[-1]
    images.ops.append(_OPS[kind])
    images.afters.append(after or [])
    images.befores.append(before or after or [])


def _empty(current: Transaction, reader: _Reader, relations: dict[int, Relation]) -> None:
    count = reader.number(4)
    reader.letter()
    for _ in range(count):
        table = relations[reader.number(4)].table
        current.images.pop(table, None)
        current.emptied.add(table)


def rows_of(found: Sequence[Transaction]) -> int:
    """Number of row images."""
    return sum(len(images.ops) for each in found for segments in each.images.values() for images in segments)

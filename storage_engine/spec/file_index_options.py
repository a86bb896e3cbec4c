"""Which columns of a data file are indexed, and how.

Spec: ``file-index.<kind>.columns`` and ``file-index.<kind>.<column>.<option>`` of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from storage_engine.errors import InvalidOption
from storage_engine.options import TableOptions, flag_of, parse_size_bytes

BLOOM_FILTER, BITMAP = "bloom-filter", "bitmap"
_COLUMN_KEYS = {BLOOM_FILTER: "file-index.bloom-filter.columns", BITMAP: "file-index.bitmap.columns"}
_FOREIGN_KINDS = ("bsi", "range-bitmap")
_PREFIX, _COLUMNS = "file-index.", ".columns"
_THRESHOLD = "file-index.in-manifest-threshold"
_DEFAULT_THRESHOLD = 500
_DEFAULT_ITEMS, _DEFAULT_FPP = 1_000_000, 0.1
_MOST_ITEMS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnIndex:
    """One index of one column. ``items``, ``fpp``: for how many values, and what share of false positives, a bloom filter is."""

    column: str
    kind: str
    items: int = _DEFAULT_ITEMS
    fpp: float = _DEFAULT_FPP


@dataclass(frozen=True, slots=True, kw_only=True)
class FileIndexOptions:
    """The indexes of a table's files. ``in_manifest``: bytes up to which they are kept in the manifest."""

    indexes: tuple[ColumnIndex, ...] = field(default=())
    in_manifest: int = _DEFAULT_THRESHOLD
    read: bool = True

    @staticmethod
    def of(options: TableOptions) -> FileIndexOptions:
        """Read the options. Raises InvalidOption."""
        raw = options.raw
        indexes = [_column_index(raw, kind, name) for kind, key in _COLUMN_KEYS.items() for name in _names(raw, key)]
        try:
            threshold = parse_size_bytes(raw.get(_THRESHOLD, str(_DEFAULT_THRESHOLD)))
        except ValueError as cause:
            raise InvalidOption(f"option {_THRESHOLD!r} is {raw[_THRESHOLD]!r}: {cause}") from cause
        read = flag_of(raw, "file-index.read.enabled", default=True)
        return FileIndexOptions(indexes=tuple(indexes), in_manifest=threshold, read=read)


def check_index_kinds(options: Mapping[str, str]) -> None:
    """Refuse kinds of indexes that are not known, or not written here. Raises InvalidOption."""
    for key in options:
        if not key.startswith(_PREFIX) or not key.endswith(_COLUMNS):
            continue
        kind = key.removeprefix(_PREFIX).removesuffix(_COLUMNS)
        if kind in _FOREIGN_KINDS:
            raise InvalidOption(
                f"option {key!r}: indexes of kind {kind!r} are not written here; use 'bloom-filter' or 'bitmap'"
            )
        if kind not in _COLUMN_KEYS:
            raise InvalidOption(f"option {key!r} names the kind {kind!r}; known: {', '.join(_COLUMN_KEYS)}")


def _names(options: Mapping[str, str], key: str) -> list[str]:
    if key not in options:
        return []
    names = [name.strip() for name in options[key].split(",")]
    if not all(names):
        raise InvalidOption(f"option {key!r} is {options[key]!r}: it names an empty column")
    return list(dict.fromkeys(names))


def _column_index(options: Mapping[str, str], kind: str, name: str) -> ColumnIndex:
    prefix = f"{_PREFIX}{kind}.{name}."
    items, fpp = options.get(f"{prefix}items", str(_DEFAULT_ITEMS)), options.get(f"{prefix}fpp", str(_DEFAULT_FPP))
    if not items.strip().isdecimal() or not 1 <= int(items) <= _MOST_ITEMS:
        raise InvalidOption(f"option '{prefix}items' is {items!r}: expected a number from 1 to {_MOST_ITEMS}")
    try:
        share = float(fpp)
    except ValueError as cause:
        raise InvalidOption(f"option '{prefix}fpp' is {fpp!r}: expected a number between 0 and 1") from cause
    if not 0 < share < 1:
        raise InvalidOption(f"option '{prefix}fpp' is {fpp!r}: expected a number between 0 and 1")
    return ColumnIndex(column=name, kind=kind, items=int(items), fpp=share)

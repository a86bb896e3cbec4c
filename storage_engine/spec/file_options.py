"""Options of data files that differ by level, or between data and changelog: format, compression, statistics.

Spec: ``file.format.per.level``, ``changelog-file.*``, ``metadata.stats-mode`` and their kin in "Configuration" of Apache
Paimon 1.3.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from storage_engine.errors import InvalidOption
from storage_engine.options import COMPRESSIONS, TableOptions, flag_of

FORMATS = ("parquet", "orc", "avro")
_TRUNCATE = re.compile(r"TRUNCATE\(\s*(\d+)\s*\)")
_DEFAULT_TRUNCATION = 16
_FIELD, _STATS_MODE = "fields.", ".stats-mode"


class StatsKind(Enum):
    """What of a column's statistics is kept."""

    NONE = "none"
    COUNTS = "counts"
    RANGE = "range"


@dataclass(frozen=True, slots=True)
class StatsMode:
    """How statistics of a column are kept; a range's strings are cut to ``length`` code points, None: whole."""

    kind: StatsKind
    length: int | None = None

    @staticmethod
    def parse(text: str) -> StatsMode:
        """``none``, ``counts``, ``full`` or ``truncate(n)``. Raises ValueError."""
        upper = text.strip().upper()
        if upper in _PLAIN_MODES:
            return _PLAIN_MODES[upper]
        match = _TRUNCATE.fullmatch(upper)
        if match is None or int(match.group(1)) < 1:
            raise ValueError("expected none, counts, full or truncate(n)")
        return StatsMode(StatsKind.RANGE, int(match.group(1)))


_PLAIN_MODES = {
    "NONE": StatsMode(StatsKind.NONE),
    "COUNTS": StatsMode(StatsKind.COUNTS),
    "FULL": StatsMode(StatsKind.RANGE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One setting: what it is for data files, for some levels, and for changelog files if they differ."""

    default: str
    by_level: Mapping[int, str] = field(default_factory=dict)
    of_changelog: str | None = None

    def at(self, level: int, *, changelog: bool) -> str:
        """The setting of a file."""
        if changelog and self.of_changelog is not None:
            return self.of_changelog
        return self.by_level.get(level, self.default)

    @property
    def values(self) -> frozenset[str]:
        """Everything it can be."""
        return frozenset((self.default, *self.by_level.values(), *filter(None, [self.of_changelog])))


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """How the files of a table are written."""

    format: Chosen
    compression: Chosen
    stats_mode: Chosen
    stats_by_column: Mapping[str, StatsMode]
    stats_first_columns: int
    dense_stats: bool
    named_by_compression: bool

    @staticmethod
    def of(options: TableOptions) -> FileOptions:
        """Read the options. Raises InvalidOption."""
        raw = options.raw
        stats = Chosen(
            default=_checked(raw, "metadata.stats-mode", f"truncate({_DEFAULT_TRUNCATION})", _stats_text),
            by_level=_by_level(raw, "metadata.stats-mode.per.level", _stats_text),
            of_changelog=_optional(raw, "changelog-file.stats-mode", _stats_text),
        )
        return FileOptions(
            format=Chosen(
                default=options.file_format,
                by_level=_by_level(raw, "file.format.per.level", _format),
                of_changelog=_optional(raw, "changelog-file.format", _format),
            ),
            compression=Chosen(
                default=options.file_compression,
                by_level=_by_level(raw, "file.compression.per.level", _compression),
                of_changelog=_optional(raw, "changelog-file.compression", _compression),
            ),
            stats_mode=stats,
            stats_by_column=_stats_by_column(raw),
            stats_first_columns=int(_checked(raw, "metadata.stats-keep-first-n-columns", "-1", _whole_number)),
            dense_stats=flag_of(raw, "metadata.stats-dense-store", default=True),
            named_by_compression=flag_of(raw, "file.suffix.include.compression"),
        )

    def stats_modes(self, columns: tuple[str, ...], level: int, *, changelog: bool) -> dict[str, StatsMode]:
        """What is kept of each column: by its own option, else by level, as long as the first columns last."""
        usual = StatsMode.parse(self.stats_mode.at(level, changelog=changelog))
        first = len(columns) if self.stats_first_columns < 0 else self.stats_first_columns
        return {
            name: self.stats_by_column.get(name, usual if number < first else _PLAIN_MODES["NONE"])
            for number, name in enumerate(columns)
        }

    def ends_are_known(self, columns: tuple[str, ...], level: int) -> bool:
        """Whether the manifest keeps the smallest and the largest value of all columns of a data file."""
        modes = self.stats_modes(columns, level, changelog=False)
        return all(mode.kind is StatsKind.RANGE for mode in modes.values())


Parser = Callable[[str], str]


def _checked(options: Mapping[str, str], key: str, default: str, parse: Parser) -> str:
    text = options.get(key, default)
    try:
        return parse(text)
    except ValueError as cause:
        raise InvalidOption(f"option {key!r} is {text!r}: {cause}") from cause


def _optional(options: Mapping[str, str], key: str, parse: Parser) -> str | None:
    return _checked(options, key, "", parse) if key in options else None


def _by_level(options: Mapping[str, str], key: str, parse: Parser) -> dict[int, str]:
    """``0:avro,5:orc``. Raises InvalidOption."""
    found: dict[int, str] = {}
    for pair in filter(str.strip, options.get(key, "").split(",")):
        level, colon, text = pair.partition(":")
        if not colon or not level.strip().isdecimal():
            raise InvalidOption(f"option {key!r} is {options[key]!r}: expected levels and values, such as 0:avro,5:orc")
        found[int(level)] = _checked({key: text.strip()}, key, "", parse)
    return found


def _one_of(choices: tuple[str, ...]) -> Parser:
    def parse(text: str) -> str:
        if text.strip().lower() not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}")
        return text.strip().lower()

    return parse


_format, _compression = _one_of(FORMATS), _one_of(COMPRESSIONS)


def _stats_text(text: str) -> str:
    StatsMode.parse(text)
    return text


def _whole_number(text: str) -> str:
    if not re.fullmatch(r"\s*-?\d+\s*", text):
        raise ValueError("expected a whole number")
    return text


def _stats_by_column(options: Mapping[str, str]) -> dict[str, StatsMode]:
    return {
        key.removeprefix(_FIELD).removesuffix(_STATS_MODE): StatsMode.parse(_checked(options, key, "", _stats_text))
        for key in options
        if key.startswith(_FIELD) and key.endswith(_STATS_MODE)
    }

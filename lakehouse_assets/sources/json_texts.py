"""Members of JSON objects as texts: some of those that are there, null for those that are not.

A line that holds anything but one object is told apart. Numbers with more digits than a double holds are not rounded, but told
apart, too. A member that is an object or a list is its JSON text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import polars as pl

from lakehouse_assets.sources.errors import SourceUnsupported

Members = Mapping[str, Sequence[str]]
"""The name of a column → the path of its member, such as ``("source", "ts_ms")``."""

WRONG: Final = "_change.wrong"
"""Why a line's members cannot be told; null if they are."""
NO_OBJECT: Final = "no JSON object in UTF-8"
_TOO_LONG: Final = "a number of more digits than can be read exactly: write it as a text"
_FEW_LINES: Final = 64
_PARTS: Final = 8
_AT, _ROW = "n", "r"
_LONG_NUMBER: Final = r"[0-9][0-9.]{15}"
_WITHOUT_PATH: Final = re.compile(r"[\\'\[\]]")
_NUMERIC: Final = r"^[-+0-9.eE]+$"


def members(lines: pl.Series, wanted: Members) -> pl.DataFrame:
    """The wanted members of each line, as texts, and ``WRONG``. Raises SourceUnsupported for a name that has no path."""
    text = lines.name
    unusual = [name for path in wanted.values() for name in path if _WITHOUT_PATH.search(name)]
    if unusual:
        raise SourceUnsupported(f"a member named {unusual[0]!r} cannot be looked up in JSON: rename the column")
    found = pl.concat(_decoded(lines, wanted)) if len(lines) else _nothing(wanted)
    long = lines.str.contains(_LONG_NUMBER).fill_null(value=False)
    if not long.any():
        return found
    checked = found.with_columns(lines)
    rounded = pl.any_horizontal(_is_rounded(pl.col(name), pl.col(text)) for name in wanted)
    wrong = pl.when(long & rounded.fill_null(value=False)).then(pl.lit(_TOO_LONG)).otherwise(WRONG)
    return checked.with_columns(wrong.alias(WRONG)).select(found.columns)


def _is_rounded(member: pl.Expr, line: pl.Expr) -> pl.Expr:
    """Whether a number does not stand in the line as it was read."""
    escaped = member.str.replace_all(r"([+.-])", r"\$1")
    verbatim = pl.concat_str(pl.lit(r"(?:^|[^0-9.eE+-])"), escaped, pl.lit(r"(?:[^0-9.eE+-]|$)"))
    return member.str.contains(_NUMERIC) & ~line.str.contains(verbatim, strict=False)


def _decoded(lines: pl.Series, wanted: Members) -> Iterator[pl.DataFrame]:
    """As many lines at a time as can be decoded together; few of which one cannot be are looked at member by member."""
    found = _together(lines, wanted)
    if found is not None:
        yield found
    elif len(lines) <= _FEW_LINES:
        yield _by_paths(lines, wanted)
    else:
        for part in lines.to_frame().iter_slices(-(-len(lines) // _PARTS)):
            yield from _decoded(part.to_series(), wanted)


def _together(lines: pl.Series, wanted: Members) -> pl.DataFrame | None:
    """The members of lines that are all objects; None if one is not, or a member is no scalar.

    The decoder reads all lines as one list, so each is numbered: what begins in one and ends in another is found out.
    """
    numbered = pl.concat_str(
        pl.lit(f'{{"{_AT}":'),
        pl.int_range(pl.len()).cast(pl.String),
        pl.lit(f',"{_ROW}":'),
        pl.col(lines.name),
        pl.lit("}"),
    )
    dtype = pl.Struct({_AT: pl.Int64(), _ROW: _struct(list(wanted.values()))})
    if lines.null_count() or not lines.str.contains(r"^[ \t\r]*\{").all():
        return None
    try:
        decoded = lines.to_frame().select(numbered.alias("line")).to_series().str.json_decode(dtype)
    except pl.exceptions.ComputeError:
        return None
    rows = decoded.struct.unnest()
    if len(rows) != len(lines) or not (rows[_AT] == pl.int_range(len(lines), eager=True)).all():
        return None
    return rows.select(
        *(_at(pl.col(_ROW), path).alias(name) for name, path in wanted.items()), pl.lit(None, pl.String).alias(WRONG)
    )


def _struct(paths: Sequence[Sequence[str]]) -> pl.Struct:
    """The type of an object with members at some paths, all texts."""
    below: dict[str, list[Sequence[str]]] = {}
    for path in paths:
        below.setdefault(path[0], []).append(path[1:])
    return pl.Struct({name: _struct(rest) if all(rest) else pl.String() for name, rest in below.items()})


def _at(value: pl.Expr, path: Sequence[str]) -> pl.Expr:
    for name in path:
        value = value.struct.field(name)
    return value


def _by_paths(lines: pl.Series, wanted: Members) -> pl.DataFrame:
    text = pl.col(lines.name)
    is_object = text.str.contains(r"^[ \t\r]*\{") & text.str.json_path_match("$").is_not_null()
    return lines.to_frame().select(
        *(
            pl.when(is_object).then(text.str.json_path_match(_json_path(path))).alias(name)
            for name, path in wanted.items()
        ),
        pl.when(~is_object.fill_null(value=False)).then(pl.lit(NO_OBJECT)).alias(WRONG),
    )


def _json_path(path: Sequence[str]) -> str:
    return "$" + "".join(f"['{name}']" for name in path)


def _nothing(wanted: Members) -> pl.DataFrame:
    return pl.DataFrame(schema=dict.fromkeys([*wanted, WRONG], pl.String()))

"""Hints of Flink's lookup joins: ``/*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast, get_args

from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place
from lakehouse_assets.flink_sql.script import DeclaredQuery
from storage_engine.lookup import Strategy

_CALL: Final = re.compile(r"(\w+)\s*\(([^)]*)\)")
_PAIR: Final = re.compile(r"'([^']*)'\s*=\s*'([^']*)'")
RETRY: Final = "retry-predicate"
STRATEGY: Final = "strategy"
WORKERS: Final = "workers"
_OTHER_ROWS: Final = (
    "incremental-", "scan.snapshot-id", "scan.tag-name", "scan.version", "scan.timestamp", "scan.watermark",
    "scan.creation-time", "scan.file-creation-time", "scan.bounded.watermark",
)  # fmt: skip
_WHOLE: Final = ("default", "full", "latest-full")


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupHint:
    """``reemit``: rows are joined again when a dimension row arrives or changes."""

    table: str
    reemit: bool = False
    strategy: Strategy = "auto"
    workers: int = 1


Hints: TypeAlias = Mapping[int, tuple[LookupHint, ...]]
"""The hints of a query's SELECTs, by their ``id``."""


def lookup_hints(tree: exp.Expr, query: DeclaredQuery) -> Hints:
    """The lookup hints of each SELECT of a query: what is within it, or beside it, has its own.

    Raises SqlError, and NotIncremental for options that would read other rows than all of a table.
    """
    found: dict[int, tuple[LookupHint, ...]] = {}
    selects = list(tree.find_all(exp.Select, bfs=False)) if query.hints else []
    for hint in query.hints:
        select = selects[hint.select]
        calls = [(name.upper(), dict(_PAIR.findall(inner))) for name, inner in _CALL.findall(hint.text)]
        place = query.place.of(select)
        for options in (each for name, each in calls if name == "OPTIONS"):
            _check_options(options, place)
        read = (_hint(options, place) for name, options in calls if name == "LOOKUP")
        found[id(select)] = (*found.get(id(select), ()), *read)
    return found


def _check_options(options: Mapping[str, str], place: Place) -> None:
    """Options that tune a read have no effect; none may choose which rows are read."""
    for key, value in options.items():
        if key.startswith(_OTHER_ROWS) or (key == "scan.mode" and value not in _WHOLE):
            raise place.refusal(
                f"hint OPTIONS: {key!r} = {value!r} reads other rows than a stream does, which takes the table as it is at"
                " first and every change from then on: leave it out, or filter in WHERE"
            )


def _hint(options: Mapping[str, str], place: Place) -> LookupHint:
    if "table" not in options:
        raise place.error("hint LOOKUP: it names no dimension, 'table'='…'")
    strategy = options.get(STRATEGY, "auto")
    if strategy not in get_args(Strategy):
        raise place.error(f"hint LOOKUP: strategy {strategy!r} is none of {', '.join(get_args(Strategy))}")
    workers = options.get(WORKERS, "1")
    if not workers.isdecimal() or (int(workers) != 1 and strategy != "bucket-shuffle"):
        raise place.error(f"hint LOOKUP: {workers!r} workers: a number of processes that share a 'bucket-shuffle'")
    return LookupHint(
        table=options["table"], reemit=RETRY in options, strategy=cast("Strategy", strategy), workers=int(workers)
    )


def hint_of(hints: Sequence[LookupHint], alias: str, table: str) -> LookupHint:
    """The hint for a dimension, by its alias, its name, or its name without database."""
    return next((hint for hint in hints if hint.table in _names(alias, table)), LookupHint(table=alias))


def check_hints(hints: Sequence[LookupHint], dimensions: Sequence[tuple[str, str]], place: Place) -> None:
    """Raises SqlError for a hint of none of the dimensions (alias, table) that its own SELECT looks up."""
    known = {name for alias, table in dimensions for name in _names(alias, table)}
    for hint in hints:
        if hint.table not in known:
            found = ", ".join(alias for alias, _ in dimensions) or "nothing"
            raise place.error(
                f"hint LOOKUP('table'='{hint.table}'): its SELECT looks up {found}; a hint stands in the SELECT of the join"
            )


def _names(alias: str, table: str) -> tuple[str, ...]:
    return (alias, table, table.partition(".")[2])

"""Hints of Flink's lookup joins: ``/*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast, get_args

from storage_engine.errors import SqlError
from storage_engine.lookup import Strategy

_CALL: Final = re.compile(r"(\w+)\s*\(([^)]*)\)")
_PAIR: Final = re.compile(r"'([^']*)'\s*=\s*'([^']*)'")
RETRY: Final = "retry-predicate"
STRATEGY: Final = "strategy"
WORKERS: Final = "workers"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupHint:
    """``reemit``: rows are joined again when a dimension row arrives or changes."""

    table: str
    reemit: bool = False
    strategy: Strategy = "auto"
    workers: int = 1


def lookup_hints(hints: Sequence[str]) -> tuple[LookupHint, ...]:
    """The lookup hints among the hints of a query. Raises SqlError for values that are not known."""
    calls = [call for hint in hints for call in _CALL.findall(hint)]
    found = [dict(_PAIR.findall(arguments)) for name, arguments in calls if name.upper() == "LOOKUP"]
    return tuple(_hint(options) for options in found if "table" in options)


def _hint(options: dict[str, str]) -> LookupHint:
    strategy = options.get(STRATEGY, "auto")
    if strategy not in get_args(Strategy):
        raise SqlError(f"hint LOOKUP: strategy {strategy!r} is none of {', '.join(get_args(Strategy))}")
    workers = options.get(WORKERS, "1")
    if not workers.isdecimal() or (int(workers) != 1 and strategy != "bucket-shuffle"):
        raise SqlError(f"hint LOOKUP: {workers!r} workers: a number of processes that share a 'bucket-shuffle'")
    return LookupHint(
        table=options["table"], reemit=RETRY in options, strategy=cast("Strategy", strategy), workers=int(workers)
    )


def hint_of(hints: Sequence[LookupHint], alias: str, table: str) -> LookupHint:
    """The hint for a dimension, by its alias, its name, or its name without database."""
    names = (alias, table, table.partition(".")[2])
    return next((hint for hint in hints if hint.table in names), LookupHint(table=alias))

"""Hints of Flink's lookup joins: ``/*+ LOOKUP('table'='d', 'retry-predicate'='lookup_miss') */``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast, get_args

from sqlglot import exp

from lakehouse_assets.flink_sql.errors import Place, known_names
from lakehouse_assets.flink_sql.script import DeclaredHint, DeclaredQuery
from storage_engine.lookup import Strategy

_STRING: Final = r"'(?:[^']|'')*'"
_CALL: Final = re.compile(rf"\s*(\w+)\s*(?:\(((?:[^()']|{_STRING})*)\))?\s*,?")
_PAIR: Final = re.compile(r"\s*'([^']*)'\s*=\s*'([^']*)'\s*(?:,|$)")
_NO_EFFECT: Final = ("BROADCAST", "SHUFFLE_HASH", "SHUFFLE_MERGE", "NEST_LOOP", "MULTI_JOIN", "STATE_TTL")
"""Hints on how Flink joins and how long it keeps its state, which is kept here as long as the rows are."""
_LOOKUP_OPTIONS: Final = (
    "table", "retry-predicate", "strategy", "workers", "async", "output-mode", "capacity", "timeout", "retry-strategy",
    "fixed-delay", "max-attempts", "shuffle",
)  # fmt: skip
"""What may stand in LOOKUP; all but the first four say how Flink waits, and have no effect."""
RETRY: Final = "retry-predicate"
LOOKUP_MISS: Final = "lookup_miss"
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
        calls = _calls(hint)
        for options in (each for name, each in calls if name == "OPTIONS"):
            _check_options(options, hint.place)
        read = (_hint(options, hint.place) for name, options in calls if name == "LOOKUP")
        found[id(select)] = (*found.get(id(select), ()), *read)
    return found


def _calls(hint: DeclaredHint) -> list[tuple[str, dict[str, str]]]:
    """The hints within ``/*+ … */`` that take options. Raises SqlError for others than those that are known."""
    found, at = [], 0
    while at < len(hint.text):
        call = _CALL.match(hint.text, at)
        if call is None or call.end() == at:
            raise hint.place.error(f"hint {hint.text[at:]} cannot be read: expected NAME('key'='value', …)")
        name, at = call.group(1).upper(), call.end()
        if name in ("LOOKUP", "OPTIONS"):
            found.append((name, _pairs(name, call.group(2) or "", hint.place)))
        elif name not in _NO_EFFECT:
            known = ", ".join(("LOOKUP", "OPTIONS", *_NO_EFFECT))
            raise hint.place.error(f"hint {name} is not known here; known: {known}")
    return found


def _pairs(name: str, text: str, place: Place) -> dict[str, str]:
    found, at, text = dict[str, str](), 0, text.strip()
    while at < len(text):
        pair = _PAIR.match(text, at)
        if pair is None:
            raise place.error(
                f"hint {name}({text}): expected 'key'='value' with commas between, and so not {text[at:]}"
            )
        found[pair.group(1)], at = pair.group(2), pair.end()
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
    for key in options:
        if key not in _LOOKUP_OPTIONS:
            raise place.error(f"hint LOOKUP has no option {key!r}; {known_names(key, _LOOKUP_OPTIONS)}")
    if options.get(RETRY, LOOKUP_MISS) != LOOKUP_MISS:
        raise place.error(f"hint LOOKUP: {RETRY!r} is {options[RETRY]!r}; known: {LOOKUP_MISS!r}")
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

"""Which continuous run moves what: one moves all of a project, unless parts of it have runs of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from itertools import chain

from lakehouse_assets.continuous import Continuous
from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.reporting import TableAsset
from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.errors import InvalidStream


def check_apart(apart: Mapping[str, Collection[str]], ingested: Collection[str], streamed: Collection[str]) -> None:
    """Raises InvalidStream unless each target that is named is one, once, and what is ingested stays together."""
    unfit = sorted(name for name in apart if not re.fullmatch("[A-Za-z0-9_]+", name))
    if unfit:
        raise InvalidStream(f"apart: {unfit[0]!r} names a step of Dagster: letters, digits and underscores only")
    named = list(chain.from_iterable(apart.values()))
    unknown = sorted({target for target in named if target not in ingested and target not in streamed})
    if unknown:
        raise InvalidStream(f"apart: nothing here fills {', '.join(unknown)}")
    twice = sorted({target for target in named if named.count(target) > 1})
    if twice:
        raise InvalidStream(f"apart: {', '.join(twice)} can be in one run only")
    for name, targets in apart.items():
        missing = sorted(set(ingested) - set(targets))
        if missing and set(ingested) & set(targets):
            raise InvalidStream(
                f"apart: {name} has some of what is ingested, but a source is read by one run: add {', '.join(missing)}"
            )


def divided(
    project: str,
    tables: Mapping[str, TableAsset],
    ingestions: Sequence[Ingestion],
    streams: Sequence[Stream],
    *,
    apart: Mapping[str, Collection[str]],
) -> list[Continuous]:
    """A run for each part of ``apart``, and one for the rest; none for what has nothing to move."""
    elsewhere = set(chain.from_iterable(apart.values()))
    every = [*(each.target for each in ingestions), *(each.target for each in streams)]
    parts = {**apart, "": [target for target in every if target not in elsewhere]}
    return [
        Continuous(
            name=project,
            part=part,
            tables=tables,
            ingestions=[each for each in ingestions if each.target in targets],
            streams=[each for each in streams if each.target in targets],
            followers=[each for each in streams if each.target not in targets],
        )
        for part, targets in parts.items()
        if any(target in targets for target in every)
    ]

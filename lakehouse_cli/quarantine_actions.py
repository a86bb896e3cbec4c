"""What the commands on the quarantine do."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from lakehouse_assets.ingest import Ingestion
from lakehouse_assets.quarantine import CORRECTION_SCHEMA, FILE, Status, refused_lines, replay
from lakehouse_assets.sources.debezium import LINE, RAW, REASON
from storage_engine import Catalog
from storage_engine.errors import InvalidInput

VERDICT_SCHEMA = pl.Schema({FILE: pl.String(), LINE: pl.Int64(), "target": pl.String(), REASON: pl.String()})


def lines(warehouse: str, quarantine: str, *, table: str | None, status: Status) -> pl.DataFrame:
    """Lines of a status, with it as a column."""
    found = refused_lines(Catalog(warehouse).table(quarantine), target=table, status=status)
    word = pl.when(pl.col("replayed_at").is_null()).then(pl.lit("waiting")).otherwise(pl.lit("replayed"))
    return found.select(FILE, LINE, "target", word.alias("status"), pl.exclude(FILE, LINE, "target"))


def one_line(warehouse: str, quarantine: str, file: str, line: int) -> pl.DataFrame:
    """All about one line, a row for each column. Raises InvalidInput if it is not there."""
    found = lines(warehouse, quarantine, table=None, status="all")
    found = found.filter((pl.col(FILE) == file) & (pl.col(LINE) == line))
    if found.is_empty():
        raise InvalidInput(f"line {line} of {file} is not in {quarantine}; 'lakehouse quarantine list' shows what is")
    return found


def fixes(file: str | None, line: int | None, text: str | None, corrections: str | None) -> pl.DataFrame | None:
    """The corrections of the command line or of a file; None if there are none. Raises InvalidInput."""
    if text is not None:
        return pl.DataFrame({FILE: [file], LINE: [line], RAW: [text]}, schema=CORRECTION_SCHEMA)
    if corrections is None:
        return None
    try:
        return pl.read_json(Path(corrections).read_bytes(), schema=CORRECTION_SCHEMA)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as cause:
        reason = str(cause).partition("\n")[0]
        raise InvalidInput(f"{corrections}: expected a JSON array of source_file, line and raw: {reason}") from cause


def replayed(
    *, corrections: pl.DataFrame | None, table: str | None, ingestions: str, name: str, warehouse: str
) -> pl.DataFrame:
    """Replay waiting lines of one table or of all; the verdict on each. Raises InvalidInput."""
    catalog, chosen = Catalog(warehouse), _ingestions(ingestions)
    waiting = refused_lines(catalog.table(name), target=table)
    asked = waiting if corrections is None else waiting.join(corrections, on=[FILE, LINE], how="semi")
    if corrections is not None and asked.height < corrections.height:
        stray = corrections.join(waiting, on=[FILE, LINE], how="anti")
        where = f"line {stray[LINE][0]} of {stray[FILE][0]}" if stray.height else "a line that is corrected twice"
        raise InvalidInput(f"{where} does not wait in {name}; nothing was replayed")
    by_target = {each.target: each for each in chosen}
    verdicts = [
        replay(catalog, _known(by_target, target), corrections=_of(corrections, asked, target), quarantine=name)
        for target in sorted(asked["target"].unique().to_list())
    ]
    return pl.concat([VERDICT_SCHEMA.to_frame(), *verdicts])


def _of(corrections: pl.DataFrame | None, asked: pl.DataFrame, target: str) -> pl.DataFrame | None:
    if corrections is None:
        return None
    return corrections.join(asked.filter(pl.col("target") == target), on=[FILE, LINE], how="semi")


def _known(by_target: dict[str, Ingestion], target: str) -> Ingestion:
    if target not in by_target:
        raise InvalidInput(f"no ingestion fills {target}: name where it is declared with --ingestions MODULE:NAME")
    return by_target[target]


def _ingestions(place: str) -> Sequence[Ingestion]:
    module, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as cause:
        raise InvalidInput(f"--ingestions {place!r}: expected MODULE:NAME of a list of Ingestion: {cause}") from cause
    if not all(isinstance(each, Ingestion) for each in found):
        raise InvalidInput(f"--ingestions {place!r}: expected a list of Ingestion")
    return tuple(found)

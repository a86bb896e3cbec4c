"""Files of a landing folder as frames. A file's name tells what is in it, and ``.gz`` or ``.zst`` behind it how it is packed.

| file | frames |
|---|---|
| ``.jsonl`` | events as texts: ``LINE``, ``RAW`` |
| ``.json``, ``.ndjson`` | rows as texts, JSON objects: ``LINE``, ``RAW``; told apart from events by the name alone |
| ``.csv`` | rows of texts, named by the first line: ``ROW``, the columns; an empty field is null, unless it is ``""`` |
| ``.parquet`` | rows in the file's types: ``ROW``, the columns |

Lines that are none are ``LINE``, ``RAW``, ``REASON``; so is, as line 1, a file that is not what its name says.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, TextIOWrapper
from typing import Final

import polars as pl
import pyarrow as pa
from pyarrow import csv as arrow_csv

from lakehouse_assets.sources.debezium import LINE, RAW, REASON
from lakehouse_assets.sources.typed_rows import LINE as ROW

EVENTS: Final = ".jsonl"
JSON_ROWS: Final = (".json", ".ndjson")
_CSV, _PARQUET = ".csv", ".parquet"
_BLOCK_MOST: Final = 2**31 - 1


def _unzstd(content: bytes) -> bytes:
    unpacked: bytes = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
    return unpacked


_PACKED: Final[Mapping[str, Callable[[bytes], bytes]]] = {".gz": gzip.decompress, ".zst": _unzstd}
SUFFIXES: Final = (
    *(f"{name}{packed}" for name in (EVENTS, *JSON_ROWS, _CSV) for packed in ("", *_PACKED)),
    _PARQUET,
)
"""Names of files that are read end so."""


def frames_of(path: str, content: bytes) -> list[pl.DataFrame]:
    """A file's frames. REQUIRES: its name ends with one of ``SUFFIXES``."""
    name = unpacked_name(path)
    packing = path.removeprefix(name)
    try:
        content = _PACKED[packing](content) if packing else content
    except (OSError, EOFError, zlib.error) as error:
        return [_refused(f"the file cannot be unpacked: {error}")]
    if name.endswith(_PARQUET):
        return [_parquet(content)]
    return _csv(content) if name.endswith(_CSV) else [_lines(content)]


def unpacked_name(path: str) -> str:
    """A path without the suffix that tells how the file is packed."""
    packing = next((packed for packed in _PACKED if path.endswith(packed)), "")
    return path.removesuffix(packing)


def decoded(content: pl.Series) -> pl.Series:
    """Bytes as text, null where they are no UTF-8. Polars decodes a column or nothing of it, so those are found by halving."""
    try:
        return content.cast(pl.String)
    except pl.exceptions.ComputeError:
        middle = len(content) // 2
        if middle == 0:
            return pl.Series(content.name, [None], dtype=pl.String())
        return pl.concat([decoded(content[:middle]), decoded(content[middle:])])


def _refused(reason: str) -> pl.DataFrame:
    """A file that is not what its name says."""
    return pl.DataFrame({LINE: [1], RAW: [""], REASON: [reason]}, schema_overrides={LINE: pl.Int64()})


def _numbered(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.select(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).alias(name), pl.all())


def _lines(content: bytes) -> pl.DataFrame:
    """The texts between line feeds; bytes that are no UTF-8 become escapes that no JSON has.

    Polars does it fast, but takes carriage returns away, and refuses what is no UTF-8.
    """
    if content and b"\r" not in content:
        try:
            return _numbered(pl.scan_lines(BytesIO(content)).collect().to_series().alias(RAW).to_frame(), LINE)
        except pl.exceptions.ComputeError:
            pass
    texts = content.decode("utf-8", errors="backslashreplace").removesuffix("\n").split("\n")
    return _numbered(pl.DataFrame({RAW: pl.Series(texts, dtype=pl.String())}), LINE)


def _parquet(content: bytes) -> pl.DataFrame:
    try:
        rows = pl.read_parquet(BytesIO(content), hive_partitioning=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).partition("\n")[0]
        return _refused(f"the file is no Parquet: {reason}")
    return _numbered(rows, ROW)


def _csv(content: bytes) -> list[pl.DataFrame]:
    """Rows under the numbers of their records, of which the header is the first; blank lines are none."""
    names = next(csv.reader(_text(content)), [])
    wrong = _wrong_header(names) or _left_open(content)
    if wrong or not names:
        return [_refused(wrong)] if wrong else []
    odd: list[arrow_csv.InvalidRow] = []

    def set_aside(row: arrow_csv.InvalidRow) -> str:
        odd.append(row)
        return "skip"

    try:
        found = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(
                use_threads=False, column_names=names, block_size=min(max(len(content), 1), _BLOCK_MOST)
            ),
            parse_options=arrow_csv.ParseOptions(
                newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=set_aside
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.binary()),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        return [_refused(f"the file is no CSV: {error}")]
    return _judged(found, odd)


def _judged(found: pa.Table, odd: Sequence[arrow_csv.InvalidRow]) -> list[pl.DataFrame]:
    """Rows of texts, and refused lines: those with other numbers of fields, or with bytes that are no UTF-8."""
    given = pl.from_arrow(found)
    assert isinstance(given, pl.DataFrame)
    names = given.columns
    records = pl.Series(ROW, range(1, len(given) + len(odd) + 1), dtype=pl.Int64())
    rows = given.with_columns(records.filter(~records.is_in([row.number for row in odd])))[1:]
    rows = rows.filter(~pl.all_horizontal(pl.col(name).is_null() for name in names))
    texts = rows.select(ROW, *(decoded(rows[name]) for name in names))
    is_broken = [texts[name].is_null() & rows[name].is_not_null() for name in names]
    broken = rows.select(pl.any_horizontal(is_broken)).to_series()
    shown = [pl.coalesce(texts[name], rows[name].bin.encode("hex"), pl.lit("")) for name in names]
    lines = rows.select(
        pl.col(ROW).alias(LINE),
        pl.concat_str(shown, separator=",").alias(RAW),
        pl.lit("bytes that are no UTF-8 (here in hexadecimal digits)").alias(REASON),
    )
    counted = pl.DataFrame(
        [(row.number, row.text, f"{row.actual_columns} fields instead of {row.expected_columns}") for row in odd],
        schema=lines.schema,
        orient="row",
    )
    refused = pl.concat([lines.filter(broken), counted]).sort(LINE)
    return [texts.filter(~broken), *([refused] if len(refused) else [])]


def _text(content: bytes) -> TextIOWrapper:
    return TextIOWrapper(BytesIO(content), encoding="utf-8-sig", errors="replace", newline="")


def _wrong_header(names: Sequence[str]) -> str:
    twice = [name for name in names if names.count(name) > 1]
    if "" in names:
        return f"column {names.index('') + 1} of the first line has no name"
    return f"the first line names {twice[0]} twice" if twice else ""


def _left_open(content: bytes) -> str:
    """What is wrong if a quotation mark that opens a field has none that closes it: the field would take the rest of the file."""
    if content.count(b'"') % 2 == 0:
        return ""
    try:
        deque(csv.reader(_text(content), strict=True), maxlen=0)
    except csv.Error as error:
        if "end of data" in str(error):
            return "a quotation mark opens a field that does not end"
    return ""

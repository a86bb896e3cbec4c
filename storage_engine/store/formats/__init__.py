"""Data file formats by name: what a frame looks like as Parquet, ORC or Avro bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from storage_engine.errors import Unsupported
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.avro import AvroFormat
from storage_engine.store.formats.base import FileFormat, FrameFile
from storage_engine.store.formats.orc import OrcFormat
from storage_engine.store.formats.parquet import ParquetFormat

__all__ = ["FORMATS", "FileFormat", "FrameFile", "format_of", "pieces"]

FORMATS: dict[str, FileFormat] = {"parquet": ParquetFormat(), "orc": OrcFormat(), "avro": AvroFormat()}
_Pieces = Callable[[FileIO, str, Sequence[str], Mapping[str, pl.DataType]], Iterator[pl.DataFrame]]
_PIECES: Mapping[str, _Pieces] = {"orc": OrcFormat().pieces, "avro": AvroFormat().pieces}


def format_of(file_name: str) -> FileFormat:
    """The format that a data file's extension names. Raises Unsupported."""
    return FORMATS[known_extension(file_name)]


def pieces(io: FileIO, path: str, columns: Sequence[str], dtypes: Mapping[str, pl.DataType]) -> Iterator[pl.DataFrame]:
    """What a file in ORC or Avro has of some columns, stripe by stripe or block by block. Raises CorruptFile, Unsupported."""
    return _PIECES[known_extension(path)](io, path, columns, dtypes)


def known_extension(file_name: str) -> str:
    """The extension of a data file, checked. Raises Unsupported."""
    extension = file_name.rsplit(".", 1)[-1]
    if extension not in FORMATS:
        raise Unsupported(f"{file_name}: files of format {extension!r} cannot be read here")
    return extension

"""What every data file format can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import polars as pl
import pyarrow as pa
from polars.exceptions import PanicException, PolarsError

from storage_engine.errors import CorruptFile
from storage_engine.store.file_io import FileIO

NO_DTYPES: Mapping[str, pl.DataType] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameFile:
    """One file to write: where, how it is compressed, and its physical schema.

    ``ends_are_known``: the manifest tells the columns' smallest and largest values. ``searched``: columns by which some of its
    rows may be looked for, None: any.
    """

    path: str
    compression: str
    zstd_level: int
    arrow_schema: pa.Schema
    ends_are_known: bool = False
    searched: tuple[str, ...] | None = None


# What the libraries say of damaged bytes, beside an OSError: names that are no text, types that do not fit, and so on.
DAMAGES: tuple[type[BaseException], ...] = (
    pa.ArrowException,
    PolarsError,
    PanicException,
    ValueError,
    KeyError,
    TypeError,
)


def says_damaged(error: OSError) -> bool:
    """Whether an error is Arrow's way to say that bytes are damaged: an OSError that no system call gave."""
    return type(error) is OSError and error.errno is None


@contextmanager
def damages_named(path: str, kind: str) -> Iterator[None]:
    """What a library says of damaged bytes becomes a CorruptFile that names the file and what it should have been."""
    try:
        yield
    except DAMAGES as cause:
        raise CorruptFile(f"{path}: not a readable {kind} file: {cause}") from cause
    except OSError as cause:
        if not says_damaged(cause):
            raise
        raise CorruptFile(f"{path}: not a readable {kind} file: {cause}") from cause


class FileFormat(Protocol):
    """Frames to files and back."""

    def write(self, io: FileIO, target: FrameFile, frame: pl.DataFrame) -> int:
        """Write a frame whose columns are those of the schema, in order; returns the file's size in bytes."""

    def read(
        self,
        io: FileIO,
        path: str,
        columns: Sequence[str],
        predicate: pl.Expr | None = None,
        *,
        dtypes: Mapping[str, pl.DataType] = NO_DTYPES,
    ) -> pl.DataFrame:
        """Read the columns that the file has among ``columns``; ``predicate`` may be used to skip rows.

        ``dtypes`` is what the columns were written as; it matters where the file itself does not tell. Raises CorruptFile
        for a damaged file.
        """

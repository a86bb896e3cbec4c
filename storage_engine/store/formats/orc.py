"""ORC data files."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa
from pyarrow import orc

from storage_engine.errors import CorruptFile
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.arrow_bridge import from_arrow, to_arrow
from storage_engine.store.formats.base import FrameFile

_COMPRESSION = {"none": "uncompressed", "null": "uncompressed", "deflate": "zlib", "gzip": "zlib"}


class OrcFormat:
    """Reads and writes with pyarrow; projection reaches the file, predicates are applied after the read."""

    def write(self, io: FileIO, target: FrameFile, frame: pl.DataFrame) -> int:
        """Write one file; returns its size in bytes."""
        compression = _COMPRESSION.get(target.compression, target.compression)
        with io.open_output(target.path) as sink:
            orc.write_table(to_arrow(frame, target.arrow_schema), sink, compression=compression)
        return io.size(target.path)

    def read(self, io: FileIO, path: str, columns: Sequence[str], predicate: pl.Expr | None = None) -> pl.DataFrame:
        """Read some columns; those that the file lacks are left out."""
        try:
            with io.open_input(path) as source:
                file = orc.ORCFile(source)
                present = [name for name in columns if name in file.schema.names]
                frame = from_arrow(file.read(columns=present)).select(present)
        except pa.ArrowException as cause:
            raise CorruptFile(f"{path}: not a readable ORC file: {cause}") from cause
        return frame if predicate is None else frame.filter(predicate)

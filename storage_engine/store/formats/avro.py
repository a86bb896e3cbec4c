"""Avro data files, as Java Paimon 1.3.1 writes and reads them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
import pyarrow as pa

from storage_engine.codec.avro import Block, read_blocks, write_blocks
from storage_engine.codec.avro_decode import decode_portions
from storage_engine.codec.avro_encode import avro_schema, encode_records
from storage_engine.errors import CorruptFile
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.arrow_bridge import to_arrow
from storage_engine.store.formats.base import NO_DTYPES, FrameFile

_BLOCK_BYTES = 1 << 20
_MAX_BLOCK_ROWS = 1 << 16
_MAX_FILE_BYTES = 4 << 30


class AvroFormat:
    """Encodes and decodes whole columns; predicates are applied after the read, and a projection saves no decoding."""

    def write(self, io: FileIO, target: FrameFile, frame: pl.DataFrame) -> int:
        """Write one file; returns its size in bytes. Raises Unsupported for types and codecs that Avro does not have."""
        schema = avro_schema(target.arrow_schema)
        blocks = _blocks(frame, target.arrow_schema)
        data = write_blocks(schema, blocks, compression=target.compression, zstd_level=target.zstd_level)
        io.write_new(target.path, data)
        return len(data)

    def read(
        self,
        io: FileIO,
        path: str,
        columns: Sequence[str],
        predicate: pl.Expr | None = None,
        *,
        dtypes: Mapping[str, pl.DataType] = NO_DTYPES,
    ) -> pl.DataFrame:
        """Read some columns; those that the file lacks are left out. ``dtypes`` must name all of them."""
        frame = pl.concat(self.pieces(io, path, columns, dtypes))
        return frame if predicate is None else frame.filter(predicate)

    def pieces(
        self, io: FileIO, path: str, columns: Sequence[str], dtypes: Mapping[str, pl.DataType]
    ) -> Iterator[pl.DataFrame]:
        """What ``read`` gives, some blocks at a time; of the rest the compressed bytes are held."""
        document, blocks = read_blocks(io.read_bytes(path), path=path, max_bytes=_MAX_FILE_BYTES)
        try:
            yield from decode_portions(document, blocks, columns, dtypes)
        except CorruptFile as cause:
            raise cause if str(cause).startswith(path) else CorruptFile(f"{path}: {cause}") from cause


def _blocks(frame: pl.DataFrame, schema: pa.Schema) -> Iterator[Block]:
    row_bytes = max(1, int(frame.estimated_size()) // max(1, frame.height))
    rows = min(max(1, _BLOCK_BYTES // row_bytes), _MAX_BLOCK_ROWS)
    for part in frame.iter_slices(rows):
        yield part.height, encode_records(to_arrow(part, schema))

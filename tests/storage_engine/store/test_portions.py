"""Files read in portions hold what they hold when they are read whole, damage included."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from pyarrow import orc

from storage_engine.errors import CorruptFile
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats import FORMATS, FrameFile
from storage_engine.store.formats.portions import read_portions

ROWS = 100_000
FRAME = pl.DataFrame(
    {
        "id": pl.int_range(ROWS, dtype=pl.Int32, eager=True),
        "text": [sha256(str(number).encode()).hexdigest() for number in range(ROWS)],
    }
)
DTYPES = dict(FRAME.schema)
PORTION_BYTES = 1 << 20


def a_file(folder: Path, extension: str) -> str:
    path = f"{folder}/data.{extension}"
    if extension == "orc":  # stripes as small as those of a writer with little memory
        orc.write_table(
            FRAME.to_arrow(compat_level=pl.CompatLevel.oldest()), path, stripe_size=1 << 20, compression="zstd"
        )
        return path
    schema = pa.schema([pa.field("id", pa.int32()), pa.field("text", pa.string())])
    target = FrameFile(path=path, compression="zstd", zstd_level=1, arrow_schema=schema)
    FORMATS[extension].write(FileIO(LocalFileSystem()), target, FRAME)
    return path


@pytest.mark.parametrize("extension", ["parquet", "orc", "avro"])
def test_portions_are_small_and_make_the_whole(tmp_path: Path, extension: str) -> None:
    io, path = FileIO(LocalFileSystem()), a_file(tmp_path, extension)
    for columns in (["text", "id"], ["id"]):
        portions = list(read_portions(io, path, columns, PORTION_BYTES, dtypes=DTYPES))
        assert pl.concat(portions).equals(FRAME.select(columns))
        assert max(portion.estimated_size() for portion in portions) < 2 * PORTION_BYTES
        assert FORMATS[extension].read(io, path, columns, dtypes=DTYPES).equals(FRAME.select(columns))


def test_damage_is_named(tmp_path: Path) -> None:
    io, path = FileIO(LocalFileSystem()), a_file(tmp_path, "avro")
    content = bytearray(Path(path).read_bytes())
    middle = len(content) * 3 // 4
    content[middle : middle + 2000] = bytes(2000)
    Path(path).write_bytes(content)
    with pytest.raises(CorruptFile, match=path):
        list(read_portions(io, path, ["id", "text"], PORTION_BYTES, dtypes=DTYPES))

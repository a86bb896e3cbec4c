"""The indexes of a data file, wherever they are kept: in its manifest entry, or in a file beside it.

Spec: "File index" of Apache Paimon 1.3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from storage_engine.codec.file_index import read_file_index
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.store.file_io import FileIO

Indexes = Mapping[str, Mapping[str, bytes | None]]
INDEX_SUFFIX = ".index"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredIndexes:
    """Indexes by column and kind, and what to call the place that they are kept at."""

    path: str
    indexes: Indexes


def read_indexes(io: FileIO, file: DataFileMeta, directory: str) -> StoredIndexes | None:
    """The indexes of a file of a bucket's directory; None if it has none. Raises CorruptFile, FileMissing."""
    if file.embedded_index is not None:
        path, content = f"{directory}/{file.file_name} (its index in the manifest)", file.embedded_index
    else:
        names = [name for name in file.extra_files if name.endswith(INDEX_SUFFIX)]
        if not names:
            return None
        path = f"{index_directory(file, directory)}/{names[0]}"
        content = io.read_bytes(path)
    return StoredIndexes(path=path, indexes=read_file_index(content, path=path))


def index_directory(file: DataFileMeta, directory: str) -> str:
    """Where the indexes beside a file lie."""
    return file.external_path.rpartition("/")[0] if file.external_path else directory

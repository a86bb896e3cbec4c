"""Where the rows of files stand in the order of a table's keys, about: told by footers and manifests, without reading rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from storage_engine.codec.binary_row import deserialize_row
from storage_engine.kernel.key_cuts import SortedRun
from storage_engine.spec.manifest import DataFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.store.data_files import DataFiles
from storage_engine.store.file_io import FileIO
from storage_engine.store.formats.portions import COMPARED, lowest_of_groups
from storage_engine.store.threads import side_by_side

_THREADS = 4


def sorted_runs(
    io: FileIO, files: DataFiles, schema: TableSchema, placed: Sequence[tuple[DataFileMeta, str]]
) -> list[SortedRun]:
    """Files, which are given with their directories, as runs that are sorted by the first key column: known are its values at
    the ends of a file, and where row groups begin. None if files are not read in ranges of it.

    It is the same whatever becomes of the table. Raises FileMissing, CorruptFile.
    """
    key = schema.trimmed_primary_keys
    if not key or schema.polars_schema[key[0]] not in COMPARED:
        return []
    types, column = schema.types_of(key), schema.by_name[key[0]].id

    def run(item: tuple[DataFileMeta, str]) -> SortedRun:
        file, directory = item
        name = next(field.name for field in files.schema_of(file).fields if field.id == column)
        first, last = (deserialize_row(types, each)[0] for each in (file.min_key, file.max_key))
        groups = lowest_of_groups(io, files.path_of(file, directory), name) or [(first, file.row_count)]
        before = accumulate((rows for _, rows in groups), initial=0)
        return SortedRun(values=(*(lowest for lowest, _ in groups), last), before=tuple(before))

    return side_by_side(run, list(placed), threads=min(_THREADS, len(placed)))

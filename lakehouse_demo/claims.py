"""Who may fill a folder: one writer at a time lands files, and a warehouse belongs to the stream that it began with.

Positions stand in the tables, so a warehouse that goes on with another stream would pass over the files whose names it
knows, without a word.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lakehouse_demo.errors import AlreadyClaimed, LandingBusy
from storage_engine.errors import FileMissing
from storage_engine.store.file_io import FileIO

LOCK_FILE: Final = ".writer"
CLAIM_FILE: Final = "filled-from.json"


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Be the one process that lands files in a folder; ends with the process, however that ends.

    Raises LandingBusy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as cause:
            raise LandingBusy(
                f"another process lands files in {folder} (make ui, or make demo): stop it, or choose another landing folder"
            ) from cause
        yield


def claim_warehouse(warehouse: str, source: Mapping[str, object]) -> None:
    """Note in a warehouse what it is filled from, or compare it with what stands there. Raises AlreadyClaimed."""
    files, root = FileIO.from_url(warehouse)
    path = f"{root}/{CLAIM_FILE}"
    wanted = {name: str(value) for name, value in source.items()}
    try:
        known = json.loads(files.read_bytes(path))
    except FileMissing:
        files.overwrite(path, f"{json.dumps(wanted, indent=2)}\n".encode())
        return
    except ValueError as cause:
        raise AlreadyClaimed(f"{path} is damaged, it should tell what the warehouse is filled from: {cause}") from cause
    if known != wanted:
        names = [name for name in {**known, **wanted} if known.get(name) != wanted.get(name)]
        differences = ", ".join(f"{name} {known.get(name)} (now {wanted.get(name)})" for name in names)
        raise AlreadyClaimed(
            f"warehouse {warehouse} was filled from another stream: {differences};"
            " choose another warehouse, or remove that one"
        )

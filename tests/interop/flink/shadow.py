"""A table as it was at one snapshot, for a streaming read that ends there.

Paimon ends a streaming read in front of the first snapshot whose watermark reaches ``scan.bounded.watermark``. So
the shadow is a folder of links to the table's own files, whose snapshots after the wanted one are left out, and
in their place stands a copy of it with the highest watermark there is. The table itself is not touched.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HIGHEST_WATERMARK = 2**63 - 1
STREAMING_END = {"scan.bounded.watermark": str(_HIGHEST_WATERMARK - 1)}


@contextmanager
def shadow_warehouse(warehouse: str, table: str, until: int) -> Iterator[Path]:
    """A warehouse with the one table, which ends after the snapshot ``until``.

    Raises:
        ValueError: the warehouse is not a local folder, or the table has no such snapshot.
    """
    folder = warehouse.removeprefix("file://")
    if "://" in folder:
        raise ValueError(f"warehouse {warehouse}: only a local one can be streamed from")
    database, name = table.split(".")
    source = Path(folder, f"{database}.db", name)
    with tempfile.TemporaryDirectory(prefix="shadow-") as shadow:
        copy = Path(shadow, f"{database}.db", name)
        copy.mkdir(parents=True)
        for entry in source.iterdir():
            if entry.name not in ("snapshot", "changelog"):
                (copy / entry.name).symlink_to(entry)
        _copy_until(source, copy, until)
        yield Path(shadow)


def _copy_until(source: Path, copy: Path, until: int) -> None:
    """Copies the snapshots up to ``until``, and the changelogs of expired ones, and adds the end."""
    (copy / "snapshot").mkdir()
    (copy / "changelog").mkdir()
    last = None
    for kind in ("changelog", "snapshot"):
        for file in (source / kind).glob(f"{kind}-*"):
            number = int(file.name.rpartition("-")[2])
            if number <= until:
                shutil.copy(file, copy / kind / file.name)
            if number == until:
                last = json.loads(file.read_text())
    if last is None:
        raise ValueError(f"{source} has no snapshot {until}")
    end = {**last, "id": until + 1, "watermark": _HIGHEST_WATERMARK}
    (copy / "snapshot" / f"snapshot-{until + 1}").write_text(json.dumps(end))

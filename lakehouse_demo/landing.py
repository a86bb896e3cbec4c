"""The landing writer: puts the embedded stream into a folder, slice by slice, so that no reader ever sees
half a file.

``<folder>/<table>/<NNNNNN>.jsonl``: names grow within a table, without gaps. A file is written and synced
under a temporary name (a leading dot, the suffix ``.tmp``), then renamed. ``<folder>/stream.json`` holds
the stream's configuration. Files that stand there are never written again, so a writer that was killed at
any moment goes on where it stopped. Streams that follow a first one put a prefix before the names of all
their files, which sorts them after those of the streams before.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

from lakehouse_demo.events import StreamConfig, StreamSlice, stream_slices

CONFIG_FILE: Final = "stream.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LandingSummary:
    """What a whole stream consists of. ``malformed``: (table, file, line from 1) of each malformed line."""

    files: int
    lines: int
    size_bytes: int
    events: Counter[tuple[str, str]]
    late: int
    duplicates: int
    malformed: tuple[tuple[str, str, int], ...]


def land(config: StreamConfig, folder: Path | str, *, prefix: str = "") -> Iterator[StreamSlice]:
    """Land the stream step by step: each step lands the next slice that is not there as a whole, and
    returns it.

    Steps that an earlier iterator made, in this process or another, are passed over, so a new iterator on
    the same folder goes on with the next slice, and ends at once when all is landed. REQUIRES: one writer
    at a time. Raises ValueError if the folder holds a stream of another configuration.
    """
    root = Path(folder)
    _claim(config, root / f"{prefix}{CONFIG_FILE}")
    for part in stream_slices(config):
        if _land_slice(part, root, prefix):
            yield part


def landed_stream(folder: Path | str) -> StreamConfig | None:
    """The stream (without prefix) whose files land in a folder; None if it has none.

    Raises ValueError if its configuration cannot be read.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_bytes())
        return StreamConfig(**{**values, "start": date.fromisoformat(values["start"])})
    except (ValueError, TypeError, KeyError) as cause:
        raise ValueError(f"{path} holds no configuration of a stream: {cause}") from cause


def write_landing(config: StreamConfig, folder: Path | str) -> LandingSummary:
    """Land all that is missing of the stream and tell what the whole stream consists of. Raises like
    ``land``.
    """
    root = Path(folder)
    _claim(config, root / CONFIG_FILE)
    return _summary(_landed(config, root))


def _landed(config: StreamConfig, root: Path) -> Iterator[StreamSlice]:
    for part in stream_slices(config):
        _land_slice(part, root)
        yield part


def _summary(parts: Iterator[StreamSlice]) -> LandingSummary:
    files = lines = size_bytes = late = duplicates = 0
    events: Counter[tuple[str, str]] = Counter()
    malformed: list[tuple[str, str, int]] = []
    for part in parts:
        files += len(part.files)
        lines += sum(file.lines for file in part.files)
        size_bytes += sum(len(file.content) for file in part.files)
        late += part.late
        duplicates += part.duplicates
        events += part.events
        malformed += [(file.table, file.name, line) for file in part.files for line in file.malformed]
    return LandingSummary(
        files=files,
        lines=lines,
        size_bytes=size_bytes,
        events=events,
        late=late,
        duplicates=duplicates,
        malformed=tuple(malformed),
    )


def _land_slice(part: StreamSlice, root: Path, prefix: str = "") -> bool:
    """Write the slice's files that are missing; whether there was one."""
    wrote = False
    for file in part.files:
        path = root / file.table / f"{prefix}{file.name}"
        if not path.exists():
            _write_atomically(path, file.content)
            wrote = True
    return wrote


def _claim(config: StreamConfig, path: Path) -> None:
    """Note the stream's configuration in a file, or compare it with the one that stands there."""
    content = (json.dumps(asdict(config), default=str, indent=2) + "\n").encode()
    if not path.exists():
        _write_atomically(path, content)
    elif path.read_bytes() != content:
        raise ValueError(
            f"{path} is of another stream than {config}: land this one in an empty folder, or remove {path.parent}"
        )


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

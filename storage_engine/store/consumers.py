"""``ConsumerStore``: how far named stream readers have come; expiry waits for them.

Spec: "Consumer ID" of Apache Paimon; ``consumer/consumer-<id>`` holds ``{"nextSnapshot": n}``.
"""

from __future__ import annotations

import json

from storage_engine.errors import CorruptFile, FileMissing
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import TablePaths, check_given_name, consumer_names_in


class ConsumerStore:
    """Consumer files of one branch."""

    def __init__(self, io: FileIO, paths: TablePaths) -> None:
        self._io = io
        self._paths = paths

    def next_snapshot(self, name: str) -> int | None:
        """The snapshot that a consumer reads next, None if there is no such consumer. Raises CorruptFile."""
        check_given_name(name, "consumer")
        path = self._paths.consumer_file(name)
        try:
            document = json.loads(self._io.read_bytes(path))
            return int(document["nextSnapshot"])
        except FileMissing:
            return None
        except (ValueError, KeyError, TypeError, RecursionError) as cause:
            raise CorruptFile(f"{path}: not a consumer position: {cause!r}") from cause

    def list(self) -> dict[str, int]:
        """All consumers with the snapshot they read next."""
        found = {
            name: self.next_snapshot(name) for name in consumer_names_in(self._io.list_names(self._paths.consumers))
        }
        return {name: position for name, position in found.items() if position is not None}

    def moved(self) -> dict[str, int]:
        """All consumers with the time of their last step, epoch milliseconds."""
        files = self._io.list_files(self._paths.consumers)
        moved = {info.path.rsplit("/", 1)[-1]: info.modified_millis for info in files}
        return {name: moved[file] for file in moved for name in consumer_names_in([file])}

    def write(self, name: str, next_snapshot: int) -> None:
        """Set a consumer's position."""
        check_given_name(name, "consumer")
        self._io.overwrite(self._paths.consumer_file(name), json.dumps({"nextSnapshot": next_snapshot}).encode())

    def delete(self, name: str) -> None:
        """Remove a consumer; one that is not there is fine."""
        check_given_name(name, "consumer")
        self._io.delete(self._paths.consumer_file(name))

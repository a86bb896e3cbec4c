"""``SnapshotStore``: the committed states of one branch, and the only place that makes one visible.

Spec: "Snapshot" of Apache Paimon; hints are accelerators that may be stale or damaged, the directory is the
truth.

Snapshots never change, except that a rollback takes ids away and later commits use them again. So a cached
snapshot is trusted only as far as the highest cached one was seen unchanged by the last ``latest()``: nothing
below an unchanged snapshot can have been rolled back.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress

from storage_engine.errors import FileMissing, SnapshotExpired, SnapshotNotFound, StorageUnavailable
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import EARLIEST, LATEST, TablePaths, changelog_ids_in, snapshot_ids_in

_log = logging.getLogger(__name__)
_CACHED_SNAPSHOTS = 512
_LONGEST_HINT = 20
_LOOKS = 10
_FIRST = 1


class SnapshotStore:
    """Snapshot files of one branch. Safe between threads."""

    def __init__(self, io: FileIO, paths: TablePaths) -> None:
        self._io = io
        self._paths = paths
        self._cache: OrderedDict[int, Snapshot] = OrderedDict()
        self._parsed: tuple[bytes, Snapshot | None] = b"", None  # the newest is looked at again and again
        self._lock = threading.Lock()

    def latest_id(self) -> int | None:
        """Id of the latest snapshot, None if the branch has none."""
        hint = self._read_hint(LATEST)
        if hint is not None and not self.exists(hint + 1) and self.exists(hint):
            return hint
        return max(self.ids(), default=None)

    def earliest_id(self) -> int | None:
        """Id of the earliest snapshot that was not expired, None if the branch has none."""
        hint = self._read_hint(EARLIEST)
        if hint is not None and self.exists(hint) and not self.exists(hint - 1):
            return hint
        if self.exists(_FIRST):  # a branch that expired none has no hint, and may have very many
            return _FIRST
        return min(self.ids(), default=None)

    def latest(self) -> Snapshot | None:
        """The latest snapshot, None if the branch has none. Also finds out about rollbacks done by others."""
        for _ in range(_LOOKS):
            snapshot_id = self.latest_id()
            if snapshot_id is None:
                self.forget()
                return None
            self._verify_cache(snapshot_id)
            # Rolled back in between: look again.
            with suppress(FileMissing):
                return self._read(snapshot_id)
        raise StorageUnavailable(f"{self._paths.snapshots}: the latest snapshot is listed but cannot be read")

    def get(self, snapshot_id: int) -> Snapshot:
        """One snapshot. Raises SnapshotExpired, SnapshotNotFound or CorruptFile."""
        with self._lock:
            cached = self._cache.get(snapshot_id)
            if cached is not None:
                self._cache.move_to_end(snapshot_id)
                return cached
        try:
            return self._read(snapshot_id)
        except FileMissing as cause:
            raise self._missing(snapshot_id) from cause

    def exists(self, snapshot_id: int) -> bool:
        """Whether the snapshot's file is there."""
        return snapshot_id > 0 and self._io.exists(self._paths.snapshot_file(snapshot_id))

    def ids(self) -> list[int]:
        """Ids of all snapshots, ascending, from a listing."""
        return snapshot_ids_in(self._io.list_names(self._paths.snapshots))

    def range(self, after: int, until: int) -> Iterator[Snapshot]:
        """Snapshots with ``after < id <= until``, ascending.

        Raises SnapshotExpired or SnapshotNotFound at a gap.
        """
        for snapshot_id in range(after + 1, until + 1):
            yield self.get(snapshot_id)

    def backwards(self) -> Iterator[Snapshot]:
        """Snapshots from the latest down to the earliest; ends where expiry has removed the next one."""
        snapshot = self.latest()
        while snapshot is not None:
            yield snapshot
            try:
                snapshot = self.get(snapshot.id - 1) if snapshot.id > 1 else None
            except SnapshotNotFound:
                return

    def try_create(self, snapshot: Snapshot, *, needs: Iterable[str] = ()) -> bool:
        """Make a snapshot visible: True if this call did, False if another commit has taken the id.

        ``needs`` are the names of the new files that it shows. The hint follows as far as it can. Raises CommitStateUnknown,
        Unsupported or StorageUnavailable.
        """
        if not self.restore(snapshot, needs=needs):
            return False
        with suppress(StorageUnavailable):
            self.write_latest_hint(snapshot.id)
        return True

    def restore(self, snapshot: Snapshot, *, needs: Iterable[str] = ()) -> bool:
        """Bring back a snapshot's file as it was (from a tag or another branch); False if the id is taken."""
        path = self._paths.snapshot_file(snapshot.id)
        content = snapshot.to_json().encode()
        created = self._io.create_exclusive(path, content, needs=needs)
        if created:
            self._parsed = content, snapshot
            self._remember(snapshot)
        return created

    def write_latest_hint(self, snapshot_id: int) -> None:
        """Point LATEST to a snapshot."""
        self._io.overwrite(self._paths.snapshot_hint_file(LATEST), str(snapshot_id).encode())

    def delete_latest_hint(self) -> None:
        """Remove LATEST, so that readers list the directory."""
        self._io.delete(self._paths.snapshot_hint_file(LATEST))

    def write_earliest_hint(self, snapshot_id: int) -> None:
        """Point EARLIEST to a snapshot."""
        self._io.overwrite(self._paths.snapshot_hint_file(EARLIEST), str(snapshot_id).encode())

    def delete(self, snapshot_id: int) -> None:
        """Remove a snapshot's file; what it names is the caller's care."""
        with self._lock:
            self._cache.pop(snapshot_id, None)
        self._io.delete(self._paths.snapshot_file(snapshot_id))

    def changelog_ids(self) -> list[int]:
        """Ids of the changelogs that outlived their snapshots, ascending."""
        return changelog_ids_in(self._io.list_names(self._paths.changelogs))

    def changelog(self, snapshot_id: int) -> Snapshot:
        """A changelog that outlived its snapshot. Raises SnapshotExpired if it is gone too."""
        path = self._paths.changelog_file(snapshot_id)
        try:
            return Snapshot.from_json(self._io.read_bytes(path), path=path, expected_id=snapshot_id)
        except FileMissing as cause:
            raise SnapshotExpired(f"{path}: the changelog was expired") from cause

    def committed(self, snapshot_id: int) -> Snapshot:
        """A snapshot, or the changelog that outlived it. Raises SnapshotExpired, SnapshotNotFound or CorruptFile."""
        try:
            return self.get(snapshot_id)
        except SnapshotExpired as expired:
            try:
                return self.changelog(snapshot_id)
            except SnapshotExpired:
                raise expired from None

    def keep_changelog(self, snapshot: Snapshot) -> None:
        """Let a snapshot's changelog outlive it: its file stands in the changelog directory from now on."""
        self._io.overwrite(self._paths.changelog_file(snapshot.id), snapshot.to_json().encode())

    def delete_changelog(self, snapshot_id: int) -> None:
        """Remove the file of a changelog that outlived its snapshot; what it names is the caller's care."""
        self._io.delete(self._paths.changelog_file(snapshot_id))

    def write_changelog_hints(self) -> None:
        """Point EARLIEST and LATEST of the changelog directory to what is there."""
        ids = self.changelog_ids()
        for hint, snapshot_id in ((EARLIEST, ids[:1]), (LATEST, ids[-1:])):
            path = f"{self._paths.changelogs}/{hint}"
            if snapshot_id:
                self._io.overwrite(path, str(snapshot_id[0]).encode())
            else:
                self._io.delete(path)

    def forget(self) -> None:
        """Drop the cache: ids may be used again after a rollback."""
        with self._lock:
            self._cache.clear()

    def _read(self, snapshot_id: int) -> Snapshot:
        path = self._paths.snapshot_file(snapshot_id)
        content = self._io.read_bytes(path)
        known, snapshot = self._parsed
        if snapshot is None or known != content or snapshot.id != snapshot_id:
            snapshot = Snapshot.from_json(content, path=path, expected_id=snapshot_id)
            self._parsed = content, snapshot
        self._remember(snapshot)
        return snapshot

    def _remember(self, snapshot: Snapshot) -> None:
        with self._lock:
            self._cache[snapshot.id] = snapshot
            self._cache.move_to_end(snapshot.id)
            while len(self._cache) > _CACHED_SNAPSHOTS:
                self._cache.popitem(last=False)

    def _verify_cache(self, latest_id: int) -> None:
        with self._lock:
            highest = max(self._cache, default=None)
            cached = None if highest is None else self._cache[highest]
        if cached is None:
            return
        try:
            standing = self._read(cached.id) if cached.id <= latest_id else None
        except FileMissing:
            standing = None
        if standing == cached:
            return
        if standing is not None:
            where = self._paths.snapshot_file(cached.id)
            _log.warning("%s changed: the table was rolled back, or a writer without exclusive creation ran", where)
        self.forget()

    def _missing(self, snapshot_id: int) -> SnapshotNotFound:
        ids = self.ids()
        where = self._paths.snapshots
        if not ids:
            return SnapshotNotFound(f"{where}: there is no snapshot {snapshot_id}; the table has none yet")
        if snapshot_id < ids[0] and snapshot_id > 0:
            return SnapshotExpired(
                f"{where}: snapshot {snapshot_id} was expired; the earliest is {ids[0]}, read from there"
            )
        return SnapshotNotFound(f"{where}: there is no snapshot {snapshot_id}; there are {ids[0]} to {ids[-1]}")

    def _read_hint(self, name: str) -> int | None:
        with suppress(FileMissing, ValueError):
            text = self._io.read_bytes(self._paths.snapshot_hint_file(name))
            if len(text) <= _LONGEST_HINT and (number := int(text.decode("ascii"))) > 0:
                return number
        return None

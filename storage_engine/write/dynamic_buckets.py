"""Dynamic buckets: which bucket a key lives in is remembered by the key's hash, in an index file for each bucket.

Spec: "Dynamic Bucket" of Apache Paimon: a known hash keeps its bucket; a new one goes to the first bucket that has room for it
(``dynamic-bucket.target-row-num``), else to a new bucket, of which there may be ``dynamic-bucket.max-buckets``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import polars as pl

from storage_engine.codec.hash_index import decode_hash_index
from storage_engine.errors import CorruptFile
from storage_engine.kernel.row_hash import row_hash
from storage_engine.options import TableOptions
from storage_engine.spec.manifest import HASH_INDEX, IndexFileMeta
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.snapshot import Snapshot
from storage_engine.store.index_files import IndexFiles
from storage_engine.store.live_files import BucketKey
from storage_engine.store.manifests import ManifestStore
from storage_engine.store.table_store import TableStore

Hashes = npt.NDArray[np.int32]
_PARTITION, _HASH, _BUCKET, _ASSIGNER = "partition", "hash", "bucket", "assigner"
_UNLIMITED = -1
_SCHEMA = pl.Schema({_PARTITION: pl.Int32, _HASH: pl.Int32, _BUCKET: pl.Int32})


NO_INDEX: Mapping[BucketKey, IndexFileMeta] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The bucket of each row (Int32), and the index files that remember new keys, by partition and bucket."""

    buckets: pl.Series
    index_files: dict[BucketKey, IndexFileMeta]


class DynamicBuckets:
    """Assigns rows to buckets. REQUIRES: one writer at a time; a commit checks that the index is still the one it read."""

    def __init__(
        self, store: TableStore, schema: TableSchema, manifests: ManifestStore, index_files: IndexFiles
    ) -> None:
        self._store = store
        self._schema = schema
        self._manifests = manifests
        self._index_files = index_files
        self._keys = schema.trimmed_primary_keys
        options = schema.table_options
        self._target_rows = options.dynamic_bucket_target_row_num
        self._max_buckets = options.dynamic_bucket_max_buckets
        self._assigners = assigner_count(options)

    def assign(
        self,
        frame: pl.DataFrame,
        partitions: Sequence[bytes],
        partition_ids: pl.Series,
        base: Snapshot | None,
        extended: Mapping[BucketKey, IndexFileMeta] = NO_INDEX,
    ) -> Assignment:
        """Assign each row of a frame; ``partition_ids`` are indexes into ``partitions``.

        ``extended``: index files that stand for those of ``base``, since the same commit has extended them. Raises CorruptFile.
        """
        hashes = row_hash(frame.select(self._keys), self._schema.types_of(self._keys))
        rows = pl.DataFrame({_PARTITION: partition_ids, _HASH: hashes}, schema_overrides={_HASH: pl.Int32})
        known = self._known(partitions, base, extended)
        fresh = rows.unique(maintain_order=True).join(known, on=[_PARTITION, _HASH], how="anti", maintain_order="left")
        added = self._placed(fresh, known)
        everything = pl.concat([known, added])
        buckets = rows.join(everything, on=[_PARTITION, _HASH], how="left", maintain_order="left")[_BUCKET]
        return Assignment(buckets=buckets, index_files=self._written(added, everything, partitions))

    def _known(
        self, partitions: Sequence[bytes], base: Snapshot | None, extended: Mapping[BucketKey, IndexFileMeta]
    ) -> pl.DataFrame:
        """The hashes that the index of the touched partitions holds, with their buckets."""
        numbers = {partition: number for number, partition in enumerate(partitions)}
        parts = [pl.DataFrame(schema=_SCHEMA)]
        if base is not None and base.index_manifest is not None:
            for entry in self._manifests.read_index(base.index_manifest):
                is_replaced = (entry.partition, entry.bucket) in extended
                if entry.index_file.index_type == HASH_INDEX and entry.partition in numbers and not is_replaced:
                    hashes = self._hashes((entry.partition, entry.bucket), entry.index_file)
                    parts.append(_frame(numbers[entry.partition], hashes, np.full(len(hashes), entry.bucket)))
        for (partition, bucket), index_file in extended.items():
            if partition in numbers:
                hashes = self._hashes((partition, bucket), index_file)
                parts.append(_frame(numbers[partition], hashes, np.full(len(hashes), bucket)))
        known = pl.concat(parts)
        if known.select(_PARTITION, _HASH).is_duplicated().any():
            raise CorruptFile(
                f"{self._store.paths.indexes}: the hash indexes hold a key twice, so one of them is damaged"
            )
        return known

    def _hashes(self, bucket: BucketKey, index_file: IndexFileMeta) -> Hashes:
        """The content of an index file, which has no checksum of its own."""
        path = self._index_files.path_of(bucket, index_file)
        hashes = decode_hash_index(self._store.io.read_bytes(path), path=path)
        if len(hashes) != index_file.row_count:
            raise CorruptFile(f"{path}: holds {len(hashes)} hashes where its manifest says {index_file.row_count}")
        return hashes

    def _placed(self, fresh: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
        """Buckets for hashes that are not known yet, partition by partition, assigner by assigner."""
        parts = [pl.DataFrame(schema=_SCHEMA)]
        of_assigner = (pl.col(_HASH).cast(pl.Int64) % self._assigners).alias(_ASSIGNER)
        shares = fresh.with_columns(of_assigner).partition_by(
            [_PARTITION, _ASSIGNER], as_dict=True, maintain_order=True
        )
        for (partition, assigner), rows in shares.items():
            sizes = np.bincount(known.filter(pl.col(_PARTITION) == partition)[_BUCKET].to_numpy())
            hashes = rows[_HASH].to_numpy()
            parts.append(_frame(int(str(partition)), hashes, self._spread(hashes, sizes, int(str(assigner)))))
        return pl.concat(parts)

    def _spread(self, hashes: Hashes, sizes: npt.NDArray[np.int64], assigner: int) -> npt.NDArray[np.int64]:
        """Buckets of one assigner for new hashes: first those that have room, then new ones, at last any of them."""
        step = self._assigners
        room = np.maximum(self._target_rows - sizes[assigner::step], 0)
        most = len(hashes) if self._max_buckets == _UNLIMITED else len(range(assigner, self._max_buckets, step))
        more = -(-max(0, len(hashes) - int(room.sum())) // self._target_rows)
        room = np.concatenate([room, np.full(min(more, max(most - len(room), 0)), self._target_rows)])
        buckets = np.repeat(np.arange(len(room)), room)[: len(hashes)]
        left = hashes[len(buckets) :].astype(np.int64)
        return np.concatenate([buckets, left // step % len(room)]) * step + assigner

    def _written(
        self, added: pl.DataFrame, everything: pl.DataFrame, partitions: Sequence[bytes]
    ) -> dict[BucketKey, IndexFileMeta]:
        """Index files of the buckets that got new hashes: each holds all hashes of its bucket."""
        found: dict[BucketKey, IndexFileMeta] = {}
        grown = added.select(_PARTITION, _BUCKET).unique()
        whole = everything.join(grown, on=[_PARTITION, _BUCKET], how="semi")
        for (partition, bucket), rows in whole.partition_by([_PARTITION, _BUCKET], as_dict=True).items():
            key = (partitions[int(str(partition))], int(str(bucket)))
            found[key] = self._index_files.write_hashes(key, rows[_HASH].to_numpy())
        return found


def assigner_count(options: TableOptions) -> int:
    """How many assigners share the keys of a partition, each with buckets of its own: so many buckets there are at first."""
    limits = (
        options.dynamic_bucket_initial_buckets,
        options.dynamic_bucket_assigner_parallelism,
        None if options.dynamic_bucket_max_buckets == _UNLIMITED else options.dynamic_bucket_max_buckets,
    )
    if limits[:2] == (None, None):
        return 1
    return min(limit for limit in limits if limit is not None)


def _frame(partition: int, hashes: Hashes, buckets: npt.NDArray[np.int64]) -> pl.DataFrame:
    columns = {_PARTITION: np.full(len(hashes), partition), _HASH: hashes, _BUCKET: buckets}
    return pl.DataFrame(columns).cast(_SCHEMA)

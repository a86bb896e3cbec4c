"""Hash index files of dynamic buckets: the hashes of the keys that a bucket holds.

Spec: "Dynamic Bucket" of Apache Paimon: big-endian int32 values, unordered, without a header.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from storage_engine.errors import CorruptFile

_HASH = np.dtype(">i4")


def encode_hash_index(hashes: npt.NDArray[np.int32]) -> bytes:
    """The bytes of an index file; hashes as Int32."""
    return hashes.astype(_HASH).tobytes()


def decode_hash_index(data: bytes, *, path: str) -> npt.NDArray[np.int32]:
    """The hashes of an index file as Int32. Raises CorruptFile, naming ``path``."""
    if len(data) % _HASH.itemsize:
        raise CorruptFile(f"{path}: has {len(data)} bytes, which is no whole number of hashes")
    return np.frombuffer(data, dtype=_HASH).astype(np.int32)

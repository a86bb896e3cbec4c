"""Lookup joins: a stream of rows widened by the current rows of a dimension table.

Three strategies, named as in Paimon's lookup join:

- ``full-cache``: the whole dimension is held, in memory or on the local disk, and kept fresh by its changes
- ``partial-cache``: only the keys asked for are read and held, those without a row too, up to a bound
- ``bucket-shuffle``: the stream is split by the dimension's buckets; a worker holds its own buckets alone
"""

from __future__ import annotations

from storage_engine.lookup.bucket_shuffle import Share, bucket_share, check_shuffle
from storage_engine.lookup.lookup_table import LookupTable, lookup_join
from storage_engine.lookup.strategy import STRATEGIES, CacheBounds, LookupStats, Strategy

__all__ = [
    "STRATEGIES",
    "CacheBounds",
    "LookupStats",
    "LookupTable",
    "Share",
    "Strategy",
    "bucket_share",
    "check_shuffle",
    "lookup_join",
]

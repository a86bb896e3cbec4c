"""Which bucket a row belongs to, for tables with a fixed number of buckets.

Spec: "Bucket" of Apache Paimon 1.3.1: bucket functions ``default`` (hash of the bucket key) and ``mod``.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from storage_engine.errors import InvalidOption
from storage_engine.kernel.row_hash import row_hash
from storage_engine.spec.schema import TableSchema
from storage_engine.spec.types import TypeRoot

__all__ = ["fixed_bucket", "row_hash"]


def fixed_bucket(frame: pl.DataFrame, schema: TableSchema) -> pl.Series:
    """The bucket of each row, Int32. REQUIRES: option ``bucket`` is positive and the frame is conformed.

    Raises InvalidOption if the bucket function does not fit the bucket key.
    """
    buckets = schema.table_options.bucket
    if buckets == 1:
        return pl.zeros(frame.height, pl.Int32, eager=True).alias("bucket")
    if schema.table_options.bucket_function == "mod":
        return _modulo(frame, schema, buckets)
    keys = schema.bucket_keys
    hashes = row_hash(frame.select(keys), schema.types_of(keys))
    # Java's abs(hash % n): the remainder has the sign of the hash.
    remainders = np.abs(np.fmod(hashes, np.int32(buckets)))
    return pl.Series("bucket", remainders, dtype=pl.Int32)


def _modulo(frame: pl.DataFrame, schema: TableSchema, buckets: int) -> pl.Series:
    keys = schema.bucket_keys
    if len(keys) != 1 or schema.by_name[keys[0]].type.root not in (TypeRoot.INT, TypeRoot.BIGINT):
        raise InvalidOption(
            f"option 'bucket-function.type' is 'mod', which needs one bucket key of type INT or BIGINT; it is {list(keys)}"
        )
    return (frame.get_column(keys[0]) % buckets).cast(pl.Int32).alias("bucket")

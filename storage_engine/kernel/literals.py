"""Text to a value of a column's type: default values and literals of schemas.

Spec: "Default Value" of Apache Paimon 1.3.1 (casts from STRING).
"""

from __future__ import annotations

import polars as pl

from storage_engine.errors import InvalidSchema
from storage_engine.kernel.evolution import cast_column
from storage_engine.spec.types import MAX_LENGTH, NESTED_ROOTS, DataType, TypeRoot

_STRING = DataType(root=TypeRoot.VARCHAR, length=MAX_LENGTH)


def parse_literal(text: str, data_type: DataType) -> pl.Series:
    """The value that a text denotes, as a Series of one row. Raises InvalidSchema."""
    if data_type.root in NESTED_ROOTS:
        raise InvalidSchema(f"a default value of type {data_type.sql} is not done here: {text!r}")
    try:
        return cast_column(pl.Series("literal", [text]), _STRING, data_type)
    except pl.exceptions.PolarsError as cause:
        raise InvalidSchema(f"{text!r} is not a value of type {data_type.sql}") from cause

"""Predicates that compare a column with values: ``=`` and ``IN``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl
from polars.exceptions import PolarsError


def equality_of(predicate: pl.Expr, dtypes: Mapping[str, pl.DataType]) -> tuple[str, pl.Series] | None:
    """The column and the values, as its dtype, one of which a row must have; None for what says something else.

    Also None where the values are not all of that dtype, or one is null.
    """
    if operator_of(predicate) not in ("Eq", "IsIn"):
        return None
    parts = predicate.meta.pop()
    column = next((part for part in parts if part.meta.is_column()), None)
    literal = next((part for part in parts if part.meta.is_literal()), None)
    if len(parts) != 2 or column is None or literal is None:
        return None
    name = column.meta.output_name()
    wanted = _literals(literal, dtypes[name]) if name in dtypes else None
    return None if wanted is None else (name, wanted)


def operator_of(predicate: pl.Expr) -> str:
    """``Eq``, ``And``, ``IsIn``, ``IsNull``, …; "" for what is none of these."""
    document: Any = json.loads(predicate.meta.serialize(format="json"))
    if not isinstance(document, dict):
        return ""
    if "BinaryExpr" in document:
        return str(document["BinaryExpr"].get("op"))
    function = document.get("Function", {}).get("function")
    boolean = function.get("Boolean") if isinstance(function, dict) else None
    if isinstance(boolean, str):
        return boolean
    return next(iter(boolean), "") if isinstance(boolean, dict) else ""


def _literals(literal: pl.Expr, dtype: pl.DataType) -> pl.Series | None:
    """The values that a column is compared with, as its dtype; None where they are not all of it, or one is null."""
    values = pl.select(literal).to_series()
    if values.dtype == pl.List:
        values = values.explode()
    try:
        same = values.cast(dtype, strict=True)
        unchanged = bool((same.cast(values.dtype, strict=True) == values).all())
    except PolarsError:
        return None
    return None if values.null_count() or not unchanged else same

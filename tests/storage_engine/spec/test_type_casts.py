"""Which changes of type keep every value: checked against what Polars does with extreme values."""

from __future__ import annotations

import itertools
from decimal import Decimal

import polars as pl
import pytest

from storage_engine.spec.type_casts import is_lossless_cast
from storage_engine.spec.types import parse_type

EXTREMES = {
    "TINYINT": [-(2**7), 2**7 - 1],
    "SMALLINT": [-(2**15), 2**15 - 1],
    "INT": [-(2**31), 2**31 - 1],
    "BIGINT": [-(2**63), 2**63 - 1],
    "FLOAT": [-3.4028234663852886e38, 1.401298464324817e-45],
    "DOUBLE": [-1.7976931348623157e308, 5e-324],
    "DECIMAL(10, 2)": [Decimal("-99999999.99"), Decimal("0.01")],
    "DECIMAL(12, 2)": [Decimal("-9999999999.99"), Decimal("0.01")],
    "DECIMAL(12, 4)": [Decimal("-99999999.9999"), Decimal("0.0001")],
    "DECIMAL(20, 0)": [Decimal(-99999999999999999999)],
}


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(EXTREMES, 2)))
def test_numbers_change_only_to_types_that_hold_all_their_values(source: str, target: str):
    before = pl.Series(EXTREMES[source], dtype=parse_type(source).to_polars())
    try:
        there = before.cast(parse_type(target).to_polars())
        survives = there.cast(before.dtype).to_list() == before.to_list()
    except pl.exceptions.PolarsError:
        survives = False
    if is_lossless_cast(parse_type(source), parse_type(target)):
        assert survives


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("TINYINT", "SMALLINT"), ("INT", "BIGINT"), ("SMALLINT", "FLOAT"), ("INT", "DOUBLE"), ("INT", "DECIMAL(10, 0)"),
        ("BIGINT", "DECIMAL(23, 4)"), ("FLOAT", "DOUBLE"), ("DECIMAL(10, 2)", "DECIMAL(12, 4)"), ("CHAR(3)", "VARCHAR(3)"),
        ("VARCHAR(3)", "STRING"), ("VARBINARY(3)", "BYTES"), ("TIMESTAMP(3)", "TIMESTAMP(6)"), ("TIME(0)", "TIME(3)"),
        ("TIMESTAMP_LTZ(3)", "TIMESTAMP_LTZ(9)"), ("DECIMAL(10, 2)", "DECIMAL(11, 2)"),
    ],
)  # fmt: skip
def test_widening_goes_one_way(source: str, target: str):
    assert is_lossless_cast(parse_type(source), parse_type(target))
    assert not is_lossless_cast(parse_type(target), parse_type(source)) or source.startswith("CHAR")


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("STRING", "INT"), ("INT", "STRING"), ("DATE", "TIMESTAMP(3)"), ("TIMESTAMP(3)", "TIMESTAMP_LTZ(3)"),
        ("BOOLEAN", "INT"), ("BYTES", "STRING"), ("ARRAY<INT>", "ARRAY<BIGINT>"), ("INT", "ARRAY<INT>"), ("INT", "FLOAT"),
        ("BIGINT", "DOUBLE"), ("INT", "DECIMAL(10, 1)"), ("DECIMAL(10, 2)", "DECIMAL(10, 3)"), ("DECIMAL(10, 2)", "DOUBLE"),
        ("STRING", "VARCHAR(3)"), ("VARCHAR(3)", "BYTES"), ("DOUBLE", "FLOAT"),
    ],
)  # fmt: skip
def test_everything_else_is_lossy(source: str, target: str):
    assert not is_lossless_cast(parse_type(source), parse_type(target))

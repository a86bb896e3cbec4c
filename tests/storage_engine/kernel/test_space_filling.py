"""Space-filling curves: keys keep the order of each type, neighbours on the curve are neighbours in space."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise, product
from typing import Any

import numpy as np
import polars as pl
import pytest

from storage_engine.errors import InvalidInput
from storage_engine.kernel.space_filling import Curve, OrderStrategy, encoded_values, ends_of, hilbert, interleaved

ORDERED: dict[str, tuple[pl.DataType, list[Any]]] = {
    "bigint": (pl.Int64(), [-(2**63), -5, -1, 0, 1, 2**63 - 1]),
    "tinyint": (pl.Int8(), [-128, -1, 0, 127]),
    "boolean": (pl.Boolean(), [False, True]),
    "double": (pl.Float64(), [float("-inf"), -1e300, -1.5, -1e-300, 0.0, 1e-300, 2.5, float("inf")]),
    "float": (pl.Float32(), [-3.5, -0.25, 0.0, 7.5]),
    "decimal": (pl.Decimal(30, 4), [Decimal("-99999999999999.1"), Decimal("-0.0001"), Decimal(0), Decimal("7.5")]),
    "date": (pl.Date(), [dt.date(1960, 1, 1), dt.date(1970, 1, 1), dt.date(2024, 2, 29)]),
    "timestamp": (pl.Datetime("us"), [dt.datetime(1969, 1, 1), dt.datetime(2024, 3, 1, 0, 0, 0, 1)]),
    "time": (pl.Time(), [dt.time(0), dt.time(12, 0, 1), dt.time(23, 59, 59)]),
    "string": (pl.String(), ["", "a", "ab", "abcdefg", "abcdefgz", "b", "é", "\U0001f600"]),
    "binary": (pl.Binary(), [b"", b"\x00\x01", b"\x01", b"\xff"]),
}


@pytest.mark.parametrize(("dtype", "values"), ORDERED.values(), ids=ORDERED)
def test_encoded_values_keep_their_order(dtype: pl.DataType, values: list[Any]) -> None:
    encoded = encoded_values(pl.Series("c", values, dtype=dtype))
    assert all(left < right for left, right in pairwise(encoded.tolist()))


@pytest.mark.parametrize("strategy", OrderStrategy)
@pytest.mark.parametrize(("dtype", "values"), ORDERED.values(), ids=ORDERED)
def test_one_column_is_sorted_with_nulls_first(dtype: pl.DataType, values: list[Any], strategy: OrderStrategy) -> None:
    frame = pl.DataFrame({"c": pl.Series([*values[::-1], None], dtype=dtype)})
    curve = Curve.over(ends_of(frame, ["c"]), strategy)
    found = curve.sort(frame)["c"].to_list()
    if strategy is not OrderStrategy.HILBERT:
        assert found == [None, *values]
    elif dtype in (pl.Int8, pl.Boolean, pl.Date):  # narrow: of each column it takes 32 bits
        assert [value for value in found if value is not None] == values


def points(size: int) -> pl.DataFrame:
    return pl.DataFrame(list(product(range(size), range(size))), schema={"x": pl.Int64, "y": pl.Int64}, orient="row")


def test_zorder_interleaves_the_bits_first_column_first() -> None:
    frame = points(4)
    curve = Curve.over(ends_of(frame, ["x", "y"]), OrderStrategy.ZORDER)

    def place(row: tuple[int, int]) -> int:
        x, y = row
        return sum(((x >> bit & 1) << 2 * bit + 1) | ((y >> bit & 1) << 2 * bit) for bit in range(2))

    assert curve.sort(frame.sample(fraction=1, shuffle=True, seed=1)).rows() == sorted(frame.rows(), key=place)


@pytest.mark.parametrize(("dimensions", "bits"), [(2, 1), (2, 4), (3, 3), (4, 2)])
def test_the_hilbert_curve_meets_each_point_once_in_steps_of_one(dimensions: int, bits: int) -> None:
    grid = list(product(range(1 << bits), repeat=dimensions))
    axes = [np.array(axis, dtype=np.uint64) for axis in zip(*grid, strict=True)]
    places = hilbert(axes, bits)
    unpacked = [(place[:, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1) for place in places]
    ordered = np.stack(unpacked, axis=2).reshape(len(grid), -1)
    index = (ordered.astype(np.int64) << np.arange(bits * dimensions - 1, -1, -1)).sum(axis=1)
    assert sorted(index.tolist()) == list(range(len(grid)))
    path = [grid[row] for row in np.argsort(index)]
    assert all(sum(abs(a - b) for a, b in zip(left, right, strict=True)) == 1 for left, right in pairwise(path))


def test_bits_are_interleaved_byte_by_byte() -> None:
    left, right = np.array([[0b11110000]], dtype=np.uint8), np.array([[0b10101010]], dtype=np.uint8)
    assert interleaved([left, right]).tolist() == [[0b11101110, 0b01000100]]


@pytest.mark.parametrize("strategy", [OrderStrategy.ZORDER, OrderStrategy.HILBERT])
def test_columns_of_unlike_extent_count_alike(strategy: OrderStrategy) -> None:
    """A column of ten values, one of a billion, one of text with a long common prefix: slices are narrow in each."""
    chance = np.random.default_rng(3)
    frame = pl.DataFrame(
        {
            "few": chance.integers(0, 10, 20_000),
            "many": chance.integers(0, 1_000_000_000, 20_000),
            "text": [f"customer-{number:06}" for number in chance.integers(0, 1_000_000, 20_000)],
        }
    )
    sorted_ = Curve.over(ends_of(frame, frame.columns), strategy).sort(frame)
    slices = [sorted_.slice(start, 200) for start in range(0, 20_000, 200)]
    for name in frame.columns:
        whole = frame[name].rank("dense").max()
        ranks = sorted_[name].rank("dense")
        spans = [ranks.slice(start, 200) for start in range(0, 20_000, 200)]
        widths = [float(span.max() - span.min()) / float(whole) for span in spans]  # type: ignore[operator,arg-type]
        assert sum(widths) / len(slices) < 0.5


def test_auto_goes_by_the_number_of_columns() -> None:
    assert [OrderStrategy.parse("auto", columns).value for columns in (1, 2, 4, 5)] == [
        "order",
        "zorder",
        "zorder",
        "hilbert",
    ]
    with pytest.raises(InvalidInput, match="spiral"):
        OrderStrategy.parse("spiral", 1)


def test_nested_columns_have_no_order() -> None:
    frame = pl.DataFrame({"c": [[1], [2]]})
    with pytest.raises(InvalidInput, match="has no order"):
        encoded_values(frame["c"])

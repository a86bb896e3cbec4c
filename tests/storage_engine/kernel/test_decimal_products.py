"""``product`` of DECIMAL, against Python's own decimal arithmetic done record by record."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Context, Decimal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage_engine.kernel.merge import MergePlan, merge
from storage_engine.spec.schema import SEQUENCE_NUMBER, VALUE_KIND
from tests.effort import examples
from tests.storage_engine.kernel.merge_models import schema_of

EXACT = Context(prec=90, rounding=ROUND_HALF_UP)


def in_turn(values: Iterable[Decimal | None], precision: int, scale: int) -> Decimal | None:
    """What Paimon makes of the values of one key: rounded at each step, nothing once the digits do not suffice."""
    product = None
    for value in values:
        if product is None or value is None:
            product = value if product is None else product
            continue
        exact = EXACT.multiply(product, value).quantize(Decimal(1).scaleb(-scale), context=EXACT)
        product = exact if len(exact.as_tuple().digits) <= precision else None
    return product


@settings(max_examples=examples(30), deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(("precision", "scale"), [(10, 2), (5, 5), (18, 4), (19, 19), (38, 0), (38, 10)])
def test_products_of_decimals(data: st.DataObject, precision: int, scale: int) -> None:
    digits = st.sampled_from(sorted({precision, precision // 2, min(precision, scale + 1)}))
    value = digits.flatmap(lambda n: st.integers(1 - 10**n, 10**n - 1)).map(lambda n: EXACT.scaleb(Decimal(n), -scale))
    records = data.draw(st.lists(st.tuples(st.integers(0, 3), st.none() | value), min_size=1, max_size=24))
    options = {"merge-engine": "aggregation", "fields.v.aggregate-function": "product"}
    schema = schema_of({"k": "BIGINT", "v": f"DECIMAL({precision}, {scale})"}, options)
    frame = pl.DataFrame(
        [(key, each, number, 0) for number, (key, each) in enumerate(records)],
        schema={"k": pl.Int64, "v": pl.Decimal(precision, scale), SEQUENCE_NUMBER: pl.Int64, VALUE_KIND: pl.Int8},
        orient="row",
    )
    merged = merge(frame, MergePlan.of(schema))
    wanted = {key: in_turn((each for k, each in records if k == key), precision, scale) for key, _ in records}
    assert merged.schema == frame.schema
    assert dict(merged.select("k", "v").iter_rows()) == wanted

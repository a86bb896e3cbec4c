"""Schema evolution: the same ALTER by either engine leaves the same schema, and old files are read alike."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from storage_engine.errors import InvalidSchema
from tests.interop.both import Both, Shared

START = """
CREATE TABLE {} (id INT NOT NULL, name STRING, amount INT, price DECIMAL(10, 2), stamp TIMESTAMP(3),
  rec ROW<a INT, b ROW<c STRING>>, ratio FLOAT, gone BIGINT, PRIMARY KEY (id) NOT ENFORCED)
WITH ('bucket' = '2', 'changelog-producer' = 'lookup', 'sequence.field' = 'stamp')
"""
NESTED = "MODIFY rec ROW<a BIGINT, b ROW<c STRING, d INT>, e STRING>"
ONE_BY_ONE = ("MODIFY rec.a BIGINT", "ADD rec.b.d INT", "ADD rec.e STRING")
"""The same in this engine, where a nested column is named by its path."""
ALTERS = [
    "ADD extra STRING",
    "ADD (first_one INT FIRST, after_id DATE AFTER id)",
    "RENAME name TO title",
    "MODIFY amount BIGINT",
    "DROP gone",
    "ADD gone STRING",
    "MODIFY (price DECIMAL(20, 2), ratio DOUBLE)",
    "MODIFY stamp TIMESTAMP(6)",
    "RENAME stamp TO happened",
    NESTED,
    "SET ('num-sorted-run.compaction-trigger' = '3')",
    "RESET ('num-sorted-run.compaction-trigger')",
]
UNSAFE = [
    "MODIFY amount STRING",
    "MODIFY ratio INT",
    "MODIFY price DECIMAL(8, 1)",
    "MODIFY happened DATE",
    "MODIFY title VARCHAR(2)",
]
WRITERS = ("ours", "paimon")


def some_rows(schema: pl.Schema, chance: random.Random) -> pl.DataFrame:
    """Rows that fit a schema, whatever it is by now."""
    height = chance.randrange(2, 6)
    columns = {name: [_value(name, dtype, chance) for _ in range(height)] for name, dtype in schema.items()}
    return pl.DataFrame(columns, schema=schema)


def _value(name: str, dtype: pl.DataType, chance: random.Random) -> Any:
    if name == "id":
        return chance.randrange(12)
    if chance.random() < 0.2:
        return None
    match dtype:
        case pl.String():
            return str(chance.randrange(-99, 99))
        case pl.Decimal():
            return Decimal(chance.randrange(-9999, 9999)).scaleb(-2)
        case pl.Float32() | pl.Float64():
            return chance.randrange(-99, 99) / 4
        case pl.Struct():
            return {field.name: _value(field.name, field.dtype, chance) for field in dtype.fields}
        case pl.Datetime():
            return pl.Series([chance.randrange(10**9)]).cast(pl.Datetime("ms"))[0]
        case pl.Date():
            return pl.Series([chance.randrange(20000)]).cast(pl.Date)[0]
        case _:
            return chance.randrange(-99, 99)


def columns_of(shared: Shared) -> list[tuple[int, str, str]]:
    return [(field.id, field.name, str(field.type)) for field in shared.table.schema.fields]


@pytest.mark.feature("Schema evolution", "add, drop, rename, move, widen, nested: altered by {alterer}")
@pytest.mark.parametrize("alterer", ["ours", "flink"])
def test_every_alter(both: Both, alterer: str) -> None:
    chance = random.Random(2)
    names = {"ours": "db.ours", "flink": "db.theirs"}
    for engine, name in names.items():
        (both.ours.execute if engine == "ours" else both.flink.sql)(START.format(name))
    mine = Shared(both=both, name=names[alterer])
    other = Shared(both=both, name=names["flink" if alterer == "ours" else "ours"])
    for step, alter in enumerate(ALTERS):
        for writer in WRITERS:
            mine.write(some_rows(mine.table.schema.polars_schema, chance), by=writer)
        mine.new_changes()
        for part in ONE_BY_ONE if alter is NESTED else [alter]:
            both.ours.execute(f"ALTER TABLE {names['ours']} {part}")
        both.flink.sql(f"ALTER TABLE {names['flink']} {alter}")
        assert columns_of(mine) == columns_of(other), alter
        assert mine.table.schema.options == other.table.schema.options, alter
        assert mine.table.schema.highest_field_id == other.table.schema.highest_field_id, alter
        before = mine.rows()
        mine.new_changes()
        if step % 4 == 3:
            mine.compact(by=WRITERS[step % 8 // 4])
            assert mine.rows() == before


@pytest.mark.feature("Schema evolution", "narrowing casts: altered by flink")
@pytest.mark.difference(
    "ALTER TABLE that may lose values of old files (BIGINT to STRING, DOUBLE to INT, …) is refused (`InvalidSchema`);"
    " where Flink did it, the table is read as Paimon reads it."
)
def test_an_alter_that_this_engine_refuses_is_read_where_flink_made_it(both: Both) -> None:
    chance = random.Random(4)
    both.ours.execute(START.format("db.t"))
    shared = Shared(both=both, name="db.t")
    for alter in ("RENAME name TO title", "RENAME stamp TO happened", *UNSAFE):
        for writer in WRITERS:
            shared.write(some_rows(shared.table.schema.polars_schema, chance), by=writer)
        if alter in UNSAFE:
            with pytest.raises(InvalidSchema):
                both.ours.execute(f"ALTER TABLE db.t {alter}")
        both.flink.sql(f"ALTER TABLE db.t {alter}")
        before = shared.rows()
    shared.compact(by="ours")
    assert shared.rows() == before

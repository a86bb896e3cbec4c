"""Types of other engines that are not done here are refused, and the message names the column."""

from __future__ import annotations

import uuid

import pytest

from storage_engine import Catalog
from storage_engine.errors import Unsupported


@pytest.mark.parametrize("type_", ["VARIANT", "BLOB"])
def test_a_column_that_is_not_read_is_named(type_: str) -> None:
    catalog = Catalog(f"memory://{uuid.uuid4()}")
    catalog.create_database("db")
    with pytest.raises(Unsupported, match=f"type '{type_}'"):
        catalog.execute(f"CREATE TABLE db.t (id INT, v {type_})")
    table = catalog.create_table("db.t", {"id": "INT", "v": "ARRAY<STRING>"}, options={"bucket": "-1"})
    path = table.store.paths.schema_file(0)
    table.store.io.overwrite(path, table.store.io.read_bytes(path).replace(b'"STRING"', f'"{type_}"'.encode()))
    with pytest.raises(Unsupported, match=f"column 'v': type '{type_}'"):
        catalog.table("db.t").scan()

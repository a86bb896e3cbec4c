"""Where rows go: partitions of every type and name, buckets by key, dynamic buckets, tables without a primary key."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import polars as pl
import pytest

from tests.interop.both import Both
from tests.interop.flink.canonical import canon
from tests.interop.workload import ALL_KINDS, Column, batches, ddl

NAMES = [
    "",
    " ",
    "plain",
    "a/b=c:d%e",
    "../../x",
    "é 😀@",
    "#?*[]{}^\"'\\",
    "\t\n\x7f",
    "null",
    "__DEFAULT_PARTITION__",
]
PARTITIONS = {
    "string": Column(sql="STRING", dtype=pl.String(), values=NAMES),
    "date": Column(sql="DATE", dtype=pl.Date(), values=[dt.date(2024, 2, 29), dt.date(1969, 12, 31)]),
    "int": Column(sql="INT", dtype=pl.Int32(), values=[-7, 0, 2**31 - 1]),
    "boolean": Column(sql="BOOLEAN", dtype=pl.Boolean(), values=[True, False]),
    "decimal": Column(sql="DECIMAL(20, 4)", dtype=pl.Decimal(20, 4), values=[Decimal("-5.1000"), Decimal(0)]),
    "timestamp": Column(
        sql="TIMESTAMP(3)",
        dtype=pl.Datetime("ms"),
        values=[dt.datetime(2024, 3, 1, 12), dt.datetime(2024, 3, 1, 12, 34, 56, 123_000), dt.datetime(1969, 1, 1)],
    ),
}
IDS = Column(sql="BIGINT", dtype=pl.Int64(), values=range(-20, 20))
TEXT = Column(sql="STRING", dtype=pl.String(), values=[None, "x", "y", "a longer text"])


@pytest.mark.feature("Partitions and buckets", "partitions by {kind}")
@pytest.mark.parametrize("legacy", ["true", "false"])
@pytest.mark.parametrize("kind", PARTITIONS)
def test_partitions_of_every_type(both: Both, kind: str, legacy: str) -> None:
    columns = {"p": PARTITIONS[kind], "id": IDS, "text": TEXT}
    options = {"bucket": "2", "partition.legacy-name": legacy}
    shared = both.create("db.t", ddl(columns, ["p", "id"]), options, rest="PARTITIONED BY (p)")
    frame = pl.DataFrame({"p": pl.Series(columns["p"].values, dtype=columns["p"].dtype)}).join(
        pl.DataFrame({"id": pl.Series([1, 2], dtype=pl.Int64)}), how="cross"
    )
    for step, writer in enumerate(["ours", "paimon", "ours"]):
        written = frame.with_columns(text=pl.lit(f"{writer} {step}"))
        shared.write(written, by=writer)
        assert shared.rows() == canon(written)
    shared.compact(by="paimon")
    shared.compact(by="ours")
    assert shared.rows() == canon(written)
    partitions = both.flink.rows("SELECT `partition`, record_count FROM `db`.`t$partitions`")
    assert len(partitions) == len(columns["p"].values)


@pytest.mark.feature("Partitions and buckets", "partitions by two columns, null among their values")
def test_partitions_of_two_columns_and_null(both: Both) -> None:
    columns = {"p": PARTITIONS["string"], "q": PARTITIONS["int"], "id": IDS}
    shared = both.create("db.t", ddl(columns, []), {"bucket": "-1"}, rest="PARTITIONED BY (p, q)")
    frame = pl.DataFrame(
        {"p": [None, None, "", "x", "x"], "q": [None, 1, 2, None, 3], "id": [1, 2, 3, 4, 5]},
        schema={name: column.dtype for name, column in columns.items()},
    )
    shared.write(frame, by="ours")
    assert shared.rows() == canon(frame)
    shared.write(frame, by="paimon")
    assert shared.rows() == canon(pl.concat([frame, frame]))
    null = shared.table.scan().filter(pl.col("p").is_null() & pl.col("q").is_null()).collect()
    assert null["id"].to_list() == [1, 1]
    assert both.flink.rows("SELECT id FROM db.t WHERE p IS NULL AND q IS NULL") == [(1,), (1,)]


BUCKETS = {
    "bucket-key": {"bucket": "5", "bucket-key": "b"},
    "bucket-key of several columns": {"bucket": "5", "bucket-key": "b,a"},
    "bucket-function mod": {"bucket": "3", "bucket-key": "a", "bucket-function.type": "mod"},
    "dynamic buckets": {"bucket": "-1"},
    "dynamic buckets of few rows": {"bucket": "-1", "dynamic-bucket.target-row-num": "7"},
}
APPEND = {
    "append table": {"bucket": "-1"},
    "append table with buckets": {"bucket": "3", "bucket-key": "id"},
}


@pytest.mark.feature("Partitions and buckets", "{id}")
@pytest.mark.parametrize("options", BUCKETS.values(), ids=BUCKETS)
def test_an_upsert_finds_the_bucket_of_the_other_engine(both: Both, options: dict[str, str]) -> None:
    # a job assigns dynamic buckets
    theirs = "flink" if options["bucket"] == "-1" else "paimon"
    columns = {
        "a": Column(sql="INT", dtype=pl.Int32(), values=range(-6, 6)),
        "b": Column(sql="STRING", dtype=pl.String(), values=["", "short", "a text of more than seven bytes"]),
        "n": IDS,
    }
    shared = both.create("db.t", ddl(columns, ["b", "a"]), options)
    model: dict[tuple[object, ...], tuple[object, ...]] = {}
    work = batches(columns, kinds=ALL_KINDS, seed=3, count=8)
    for step, changes in enumerate(work):
        shared.write(changes, by=("ours", theirs)[step % 2])
        for *row, kind in changes.iter_rows():
            key = tuple(row[:2])
            model.pop(key, None)
            if kind in ("+I", "+U"):
                model[key] = tuple(row)
        frame = pl.DataFrame(list(model.values()), schema=changes.drop("_row_kind").schema, orient="row")
        assert shared.rows() == canon(frame)
        if step % 3 == 2:
            shared.compact(by=(theirs, "ours")[step % 2])


@pytest.mark.feature("Partitions and buckets", "{id}")
@pytest.mark.parametrize("options", APPEND.values(), ids=APPEND)
def test_append_tables(both: Both, options: dict[str, str]) -> None:
    # a job compacts a table that has no buckets
    theirs = "flink" if options["bucket"] == "-1" else "paimon"
    columns = {"id": IDS, "text": TEXT}
    shared = both.create("db.t", ddl(columns, []), options)
    whole = []
    for step, rows in enumerate(batches(columns, kinds=("+I",), seed=5, count=6)):
        shared.write(rows, by=("ours", theirs)[step % 2])
        whole.append(rows.drop("_row_kind"))
        assert shared.rows() == canon(pl.concat(whole))
        shared.new_changes()
    shared.compact(by="ours")
    assert shared.rows() == canon(pl.concat(whole))
    shared.compact(by=theirs)
    assert shared.rows() == canon(pl.concat(whole))


@pytest.mark.feature("Partitions and buckets", "a thousand keys in 16 buckets")
def test_a_thousand_keys_hash_as_in_paimon(both: Both) -> None:
    """Many keys, of which the other engine then must find each: none is there twice."""
    chance = random.Random(11)
    columns = {
        "k": Column(sql="STRING", dtype=pl.String(), values=[]),
        "d": Column(sql="DECIMAL(30, 6)", dtype=pl.Decimal(30, 6), values=[]),
        "n": Column(sql="INT", dtype=pl.Int32(), values=[]),
    }
    frame = pl.DataFrame(
        {
            "k": ["".join(chance.choices("abé😀", k=chance.randrange(30))) for _ in range(1000)],
            "d": [Decimal(chance.randrange(-(10**30), 10**30)).scaleb(-6, None) for _ in range(1000)],
            "n": range(1000),
        },
        schema={name: column.dtype for name, column in columns.items()},
    )
    shared = both.create("db.t", ddl(columns, ["k", "d"]), {"bucket": "16"})
    shared.write(frame, by="ours")
    shared.write(frame.with_columns(n=pl.col("n") + 1), by="paimon")
    assert shared.rows() == canon(frame.with_columns(n=pl.col("n") + 1))


MOVING = {
    "deduplicate": {},
    "deduplicate with lookup changelog": {"changelog-producer": "lookup"},
    "partial-update": {"merge-engine": "partial-update"},
    "first-row": {"merge-engine": "first-row"},
}


@pytest.mark.feature("Partitions and buckets", "a primary key without the partition column: {id}")
@pytest.mark.parametrize("options", MOVING.values(), ids=MOVING)
def test_rows_move_between_partitions(both: Both, options: dict[str, str]) -> None:
    columns = {"p": Column(sql="STRING", dtype=pl.String(), values=["a", "b", "c"]), "id": IDS, "text": TEXT}
    shared = both.create(
        "db.t",
        ddl(columns, ["id"]),
        {"bucket": "-1", "dynamic-bucket.target-row-num": "8", **options},
        rest="PARTITIONED BY (p)",
    )
    model: dict[int, tuple[str, int, str | None]] = {}
    for step, changes in enumerate(batches(columns, kinds=("+I",), seed=9, count=4)):
        # one row a key: in which order a job takes the others is not told
        rows = changes.drop("_row_kind").unique("id", keep="last", maintain_order=True)
        shared.write(rows, by=("ours", "flink")[step % 2])
        for day, id_, text in rows.iter_rows():
            old = model.get(id_)
            if old is None or not options.get("merge-engine"):
                model[id_] = (day, id_, text)
            elif options["merge-engine"] == "partial-update":
                model[id_] = (old[0], id_, old[2] if text is None else text)
        assert shared.rows() == canon(pl.DataFrame(list(model.values()), schema=rows.schema, orient="row"))
        shared.new_changes()
    shared.compact(by="ours")
    shared.rows()


POSTPONED = {
    "deduplicate": {},
    "deduplicate with lookup changelog": {"changelog-producer": "lookup"},
    "deduplicate with deletion vectors": {"deletion-vectors.enabled": "true"},
    "partial-update": {"merge-engine": "partial-update"},
}


@pytest.mark.feature("Partitions and buckets", "postponed buckets: {id}")
@pytest.mark.parametrize("options", POSTPONED.values(), ids=POSTPONED)
def test_postponed_rows_get_their_buckets(both: Both, options: dict[str, str]) -> None:
    columns = {"p": Column(sql="STRING", dtype=pl.String(), values=["a", "b"]), "id": IDS, "text": TEXT}
    kinds = ("+I",) if "merge-engine" in options else ("+I", "+I", "-D")
    postponed = {"bucket": "-2", "postpone.default-bucket-num": "2", **options}
    shared = both.create("db.t", ddl(columns, ["p", "id"]), postponed, rest="PARTITIONED BY (p)")
    model: dict[tuple[str, int], tuple[str, int, str | None]] = {}
    for step, changes in enumerate(batches(columns, kinds=kinds, seed=13, count=4)):
        # one row a key: in which order a job takes the others is not told
        rows = changes.unique(["p", "id"], keep="last", maintain_order=True)
        shared.write(rows, by=("ours", "flink")[step % 2])
        for day, id_, text, kind in rows.iter_rows():
            old = model.pop((day, id_), None)
            if kind == "+I":
                kept = old[2] if "merge-engine" in options and old is not None and text is None else text
                model[day, id_] = (day, id_, kept)
        if step % 2:
            shared.compact(by=("flink", "ours")[step // 2])
            frame = pl.DataFrame(list(model.values()), schema=rows.drop("_row_kind").schema, orient="row")
            assert shared.rows() == canon(frame)
        shared.new_changes()


@pytest.mark.feature("Partitions and buckets", "partitions rescaled to another number of buckets")
def test_partitions_are_rescaled(both: Both) -> None:
    columns = {"p": Column(sql="STRING", dtype=pl.String(), values=["a", "b"]), "id": IDS, "text": TEXT}
    shared = both.create("db.t", ddl(columns, ["p", "id"]), {"bucket": "2"}, rest="PARTITIONED BY (p)")
    for step, changes in enumerate(batches(columns, kinds=("+I",), seed=4, count=4)):
        shared.write(changes, by=("ours", "paimon")[step % 2])
    expected = shared.rows()
    both.ours.execute("ALTER TABLE db.t SET ('bucket' = '3')")
    both.ours.execute("CALL sys.rescale(`table` => 'db.t', `partition` => 'p=a')")
    assert shared.rows() == expected
    shared.sql("INSERT OVERWRITE db.t PARTITION (p = 'b') SELECT id, text FROM db.t WHERE p = 'b'")
    assert shared.rows() == expected
    assert shared.table.rescale() is None
    rows = pl.DataFrame(
        {"p": ["a", "b"] * 20, "id": [*range(-20, 20)], "text": "new"}, schema_overrides={"id": pl.Int64}
    )
    shared.write(rows, by="ours")
    shared.write(rows.with_columns(text=pl.lit("newer")), by="paimon")
    shared.compact(by="ours")
    assert {row[2] for row in shared.rows() if (row[1] % 2 == 0) == (row[0] == "a")} == {"newer"}

"""The harness itself: real Flink creates, writes, reads, streams and compacts a Paimon table."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from tests.interop.flink.canonical import Row, canon, canon_changes, in_order
from tests.interop.flink.jvm import FlinkTimeout
from tests.interop.flink.server import Flink, FlinkSession
from tests.interop.flink.toolchain import FlinkError

ORDERS = """
CREATE TABLE ods.orders (v_date STRING, id BIGINT, amount DECIMAL(20, 4),
  PRIMARY KEY (v_date, id) NOT ENFORCED)
PARTITIONED BY (v_date) WITH ('bucket' = '2', 'changelog-producer' = 'lookup')
"""
ONE: Row = ("2024-01-01", 1, "1.5000")
TWO: Row = ("2024-01-02", 2, "2.0000")
TWO_AFTER: Row = ("2024-01-02", 2, "-7.2500")


@pytest.fixture
def session(flink: Flink, tmp_path: Path) -> FlinkSession:
    session = flink.open(tmp_path)
    session.sql("CREATE DATABASE ods")
    return session


@pytest.fixture
def orders(session: FlinkSession) -> FlinkSession:
    """`ods.orders` after two commits: two rows, then one deleted and the other updated."""
    session.sql(ORDERS)
    session.sql("INSERT INTO ods.orders VALUES ('2024-01-01', 1, 1.5), ('2024-01-02', 2, 2)")
    session.write("ods.orders", [("-D", ONE), ("+U", TWO_AFTER)])
    return session


def test_flink_and_paimons_core_read_what_flink_wrote(orders: FlinkSession) -> None:
    assert orders.rows("SELECT * FROM ods.orders") == [TWO_AFTER]
    result = orders.read("ods.orders", {"scan.snapshot-id": "2"})
    assert (result.columns, result.types[2]) == (["v_date", "id", "amount"], "DECIMAL(20, 4)")
    assert in_order(result.rows) == [ONE, TWO]


def test_changelog_and_stream_cover_the_snapshots_after_and_until(orders: FlinkSession) -> None:
    snapshots = [(snapshot["id"], snapshot["commitKind"]) for snapshot in orders.snapshots("ods.orders")]
    assert snapshots == [(1, "APPEND"), (2, "COMPACT"), (3, "APPEND"), (4, "COMPACT")]
    inserted = [(2, "+I", ONE), (2, "+I", TWO)]
    changed = [(4, "+U", TWO_AFTER), (4, "-D", ONE), (4, "-U", TWO)]
    assert in_order(map(tuple, orders.changelog("ods.orders", 0, 4))) == inserted + changed
    assert in_order(map(tuple, orders.changelog("ods.orders", 2, 4))) == changed
    assert in_order(map(tuple, orders.changelog("ods.orders", 0, 3))) == inserted
    assert in_order(orders.stream("ods.orders", 0, 3).changes()) == [("+I", ONE), ("+I", TWO)]
    assert in_order(orders.stream("ods.orders", 2, 4).changes()) == [change[1:] for change in changed]


def test_streaming_select_ends_after_its_limit(orders: FlinkSession) -> None:
    query = "SELECT * FROM ods.orders /*+ OPTIONS('scan.mode' = 'from-snapshot', 'scan.snapshot-id' = '1') */"
    result = orders.sql(query, streaming=True, limit=2)
    assert in_order(result.changes()) == [("+I", ONE), ("+I", TWO)]


def test_compact_full_and_minor(session: FlinkSession) -> None:
    session.sql(ORDERS.replace("WITH (", "WITH ('write-only' = 'true', "))
    for amount in ("1.0000", "2.0000", "3.0000"):
        session.write("ods.orders", [("+I", ("2024-01-01", 1, amount))])
    session.compact("ods.orders", full=False)
    session.compact("ods.orders", full=True)
    assert session.snapshots("ods.orders")[-1]["commitKind"] == "COMPACT"
    assert session.rows("SELECT level, record_count FROM `ods`.`orders$files`") == [(5, 1)]


TYPES = {
    "b": ("BOOLEAN", pl.Boolean()),
    "i8": ("TINYINT", pl.Int8()),
    "i64": ("BIGINT", pl.Int64()),
    "f32": ("FLOAT", pl.Float32()),
    "f64": ("DOUBLE", pl.Float64()),
    "dec": ("DECIMAL(38, 10)", pl.Decimal(38, 10)),
    "text": ("STRING", pl.String()),
    "bin": ("BYTES", pl.Binary()),
    "day": ("DATE", pl.Date()),
    "clock": ("TIME(3)", pl.Time()),
    "ts0": ("TIMESTAMP(0)", pl.Datetime("ms")),
    "ts6": ("TIMESTAMP(6)", pl.Datetime("us")),
    "ts9": ("TIMESTAMP(9)", pl.Datetime("ns")),
    "ltz": ("TIMESTAMP_LTZ(3)", pl.Datetime("ms", "UTC")),
    "arr": ("ARRAY<DOUBLE>", pl.List(pl.Float64())),
    "map": ("MAP<BIGINT, BYTES>", pl.List(pl.Struct({"key": pl.Int64(), "value": pl.Binary()}))),
    "row": (
        "ROW<x DECIMAL(5, 2), y ROW<z TIMESTAMP(3)>>",
        pl.Struct({"x": pl.Decimal(5, 2), "y": pl.Struct({"z": pl.Datetime("ms")})}),
    ),
}
STAMP = dt.datetime(2024, 2, 29, 23, 59, 59, 120_000)
FRAME = pl.DataFrame(
    [
        {
            "b": True,
            "i8": -128,
            "i64": 2**63 - 1,
            "f32": 0.1,
            "f64": float("nan"),
            "dec": Decimal("-1234567890123456789012345678.0000000001"),
            "text": 'é\n"\\ 😀\u2028',
            "bin": b"\x00\xff",
            "day": dt.date(1582, 10, 4),
            "clock": dt.time(23, 59, 59, 7_000),
            "ts0": dt.datetime(1969, 12, 31, 23, 59, 59),
            "ts6": dt.datetime(2024, 2, 29, 23, 59, 59, 123_456),
            "ts9": dt.datetime(2024, 2, 29, 23, 59, 59, 123_456),
            "ltz": STAMP.replace(tzinfo=dt.UTC),
            "arr": [-0.0, float("inf"), None, 1e300],
            "map": [{"key": 10, "value": b"\x0a"}, {"key": 2, "value": None}],
            "row": {"x": Decimal("1.50"), "y": {"z": STAMP}},
        },
        dict.fromkeys(TYPES),
        {"f64": -0.0, "arr": [], "map": [], "row": {"x": None, "y": None}, "text": "", "bin": b""},
    ],
    schema={name: dtype for name, (_, dtype) in TYPES.items()},
)


def test_every_type_goes_through_flink_in_canonical_form(session: FlinkSession) -> None:
    columns = ", ".join(f"`{name}` {type_}" for name, (type_, _) in TYPES.items())
    session.sql(f"CREATE TABLE ods.types ({columns})")
    rows = canon(FRAME)
    session.write("ods.types", [("+I", row) for row in rows])
    assert session.rows("SELECT * FROM ods.types") == rows
    assert in_order(session.read("ods.types").rows) == rows
    as_text = session.rows("SELECT CAST(ts6 AS STRING), CAST(ltz AS STRING) FROM ods.types WHERE b")
    assert as_text == [("2024-02-29 23:59:59.123456", "2024-02-29 23:59:59.120")]


def test_canonical_changes_keep_the_frames_order() -> None:
    frame = pl.DataFrame({"id": [2, 1], "_row_kind": ["-U", "+U"]})
    assert canon_changes(frame) == [("-U", (2,)), ("+U", (1,))]


def test_canonical_refuses_a_dtype_without_a_paimon_type() -> None:
    with pytest.raises(TypeError, match="Duration"):
        canon(pl.DataFrame({"d": [dt.timedelta(1)]}))


def test_an_error_tells_its_causes(session: FlinkSession) -> None:
    with pytest.raises(FlinkError, match="Object 'absent' not found"):
        session.sql("SELECT * FROM absent")


@pytest.mark.usefixtures("flink")
def test_a_statement_out_of_time_kills_the_jvm_and_the_next_one_gets_another(tmp_path: Path) -> None:
    with Flink() as own:
        session = own.open(tmp_path)
        with pytest.raises(FlinkTimeout, match="did not answer within"):
            session.sql("CREATE DATABASE ods", timeout_s=0.0)
        session.sql("CREATE DATABASE dwd")
        assert ("dwd",) in session.sql("SHOW DATABASES").rows

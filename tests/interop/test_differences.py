"""Where this engine differs from Paimon 1.3.1 on purpose, or refuses what it would read or write wrong."""

from __future__ import annotations

import polars as pl
import pytest

from storage_engine.errors import InvalidSchema, Unsupported
from tests.interop.both import Both, Shared
from tests.interop.flink.canonical import canon, canon_changes

ROW = pl.DataFrame({"id": [1], "n": [2]}, schema={"id": pl.Int32, "n": pl.Int32})


@pytest.mark.difference(
    "Partial update with a sequence group and a lookup changelog: of a record whose sequence is null, Paimon's changelog"
    " leaves the group's columns out, but its batch read shows them until another record of the key comes. Here the rows"
    " are what the changelog told."
)
def test_rows_are_what_the_changelog_told(both: Both) -> None:
    options = {
        "bucket": "1",
        "merge-engine": "partial-update",
        "fields.seq.sequence-group": "n",
        "changelog-producer": "lookup",
    }
    told, stored = {}, {}
    for writer in ("ours", "paimon"):
        shared = both.create(f"db.{writer}", "id INT PRIMARY KEY NOT ENFORCED, seq INT, n INT", options)
        shared.write(ROW.select("id", pl.lit(None, pl.Int32).alias("seq"), "n"), by=writer)
        told[writer], stored[writer] = shared.new_changes(), shared.rows()
    assert told["ours"] == told["paimon"] == [("+I", (1, None, None))]
    assert stored == {"ours": [(1, None, None)], "paimon": [(1, None, 2)]}


@pytest.mark.difference(
    "First row with a lookup changelog: a key that is new is told as `+I`, also where it came as `+U`; Paimon tells `+U`."
)
def test_the_first_row_of_a_key_is_an_insert(both: Both) -> None:
    options = {"bucket": "1", "merge-engine": "first-row", "changelog-producer": "lookup"}
    told = {}
    for writer in ("ours", "paimon"):
        shared = both.create(f"db.{writer}", "id INT PRIMARY KEY NOT ENFORCED, n INT", options)
        shared.write(ROW.with_columns(_row_kind=pl.lit("+U")), by=writer)
        told[writer] = [kind for kind, _ in shared.new_changes()]
    assert told == {"ours": ["+I"], "paimon": ["+U"]}


@pytest.mark.difference(
    "`'sequence.field.sort-order' = 'descending'` is refused (`Unsupported`): Paimon 1.3.1 merges such tables in either"
    " order, by chance."
)
def test_descending_sequence(both: Both) -> None:
    ddl = (
        "CREATE TABLE db.t (id INT PRIMARY KEY NOT ENFORCED, n INT) WITH ('bucket' = '1', 'sequence.field' = 'n',"
        " 'sequence.field.sort-order' = 'descending')"
    )
    with pytest.raises(Unsupported, match="descending"):
        both.ours.execute(ddl)
    both.flink.sql(ddl)
    with pytest.raises(Unsupported, match="descending"):
        both.ours.table("db.t").write(ROW)


@pytest.mark.difference(
    "FLOAT and DOUBLE keys are refused at CREATE (`InvalidSchema`); where Flink made one, it is used."
)
def test_keys_of_floats(both: Both) -> None:
    ddl = "CREATE TABLE db.t (id DOUBLE PRIMARY KEY NOT ENFORCED, n INT) WITH ('bucket' = '1')"
    with pytest.raises(InvalidSchema, match="DOUBLE cannot be a key"):
        both.ours.execute(ddl)
    both.flink.sql(ddl)
    shared = Shared(both=both, name="db.t")
    frame = ROW.cast({"id": pl.Float64})
    for writer in ("paimon", "ours"):
        shared.write(frame, by=writer)
        assert shared.rows() == canon(frame)


@pytest.mark.difference("Row tracking: such tables are read, but not written (`Unsupported`).")
def test_row_tracking(both: Both) -> None:
    both.flink.sql("CREATE TABLE db.t (id INT, n INT) WITH ('row-tracking.enabled' = 'true')")
    shared = Shared(both=both, name="db.t")
    both.flink.sql("INSERT INTO db.t VALUES (1, 2)")
    assert shared.rows() == canon(ROW)
    with pytest.raises(Unsupported, match=r"row-tracking\.enabled"):
        shared.table.write(ROW)


@pytest.mark.difference(
    "`changes(…, mode='diff')` tells both sides of an update (`-U`, `+U`); Paimon's `incremental-between` of two tags"
    " tells its new side as `+I`."
)
def test_a_diff_tells_both_sides(both: Both) -> None:
    shared = both.create("db.t", "id INT PRIMARY KEY NOT ENFORCED, n INT", {"bucket": "1"})
    for number in (1, 2):
        shared.write(ROW.with_columns(n=pl.lit(number, pl.Int32)), by="ours")
        shared.table.create_tag(f"t{number}")
    theirs = both.flink.read("db.t$audit_log", {"incremental-between": "t1,t2"}).rows
    assert theirs == [("+I", 1, 2)]
    assert canon_changes(shared.table.changes("t1", "t2").collect()) == [("-U", (1, 1)), ("+U", (1, 2))]

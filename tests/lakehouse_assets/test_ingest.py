"""From a landing folder to ODS: each event once, refused lines kept, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Thread

import polars as pl
import pytest

from lakehouse_assets.ingest import QUARANTINE, Ingester
from lakehouse_assets.ingest_mover import IngestMover
from lakehouse_assets.quarantine import counts
from lakehouse_assets.sources.change_source import SourceBatch, SourceTable
from lakehouse_assets.sources.errors import SourceSchemaChanged
from lakehouse_assets.sources.landing import LandingSource
from lakehouse_assets.sprint.ods import INGESTIONS
from lakehouse_assets.stream.loop import Limits, Loop
from storage_engine import Catalog, Table
from storage_engine.errors import StorageEngineError
from tests.fakes.faulty_file_io import Killed

MEMBERS = next(each for each in INGESTIONS if each.target == "ods.member")
CITIES = next(each for each in INGESTIONS if each.target == "dim.city")
ORDERS = next(each for each in INGESTIONS if each.target == "ods.member_order")


def member(key: str, *, time: int, city: str = "C1", op: str = "c") -> str:
    row = {"id": key, "name": "An", "city_id": city, "phone": None, "event_time": time}
    sides = {"before": row, "after": None} if op == "d" else {"before": None, "after": row}
    return json.dumps({"op": op, **sides, "source": {"ts_ms": time}})


class Landing:
    """A folder that files of members land in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = 0
        (folder / "member").mkdir(parents=True)

    def land(self, *lines: str) -> None:
        self.files += 1
        (self.folder / "member" / f"{self.files:06d}.jsonl").write_text("\n".join(lines))


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path / "landing")


@pytest.fixture
def ingester(sprint_catalog: Catalog, landing: Landing) -> Ingester:
    return Ingester(sprint_catalog, LandingSource(str(landing.folder)), [MEMBERS])


def members(catalog: Catalog) -> list[tuple[object, ...]]:
    rows = catalog.table("ods.member").scan().select("id", "city_id", "op", "deleted").collect()
    return rows.sort("id").rows()


def test_events_become_rows_with_their_position(sprint_catalog: Catalog, ingester: Ingester, landing: Landing) -> None:
    landing.land(member("m1", time=1), member("m2", time=2))
    (result,) = ingester.run_batch()
    assert (result.target, result.rows_read, result.rows_rejected) == ("ods.member", 2, 0)
    assert result.consumed == {ingester.source.name: (None, "000001.jsonl")}
    assert members(sprint_catalog) == [("m1", "C1", "c", False), ("m2", "C1", "c", False)]
    assert ingester.run_batch() == []


def test_late_and_repeated_events_change_nothing(sprint_catalog: Catalog, ingester: Ingester, landing: Landing) -> None:
    landing.land(member("m1", time=5, city="C5", op="u"))
    ingester.run_batch()
    landing.land(member("m1", time=5, city="C5", op="u"), member("m1", time=1))
    ingester.run_batch()
    assert members(sprint_catalog) == [("m1", "C5", "u", False)]


def test_a_deleted_row_is_not_brought_back_by_an_older_event(
    sprint_catalog: Catalog, ingester: Ingester, landing: Landing
) -> None:
    landing.land(member("m1", time=9, op="d"))
    ingester.run_batch()
    sprint_catalog.table("ods.member").compact(full=True)
    landing.land(member("m1", time=1), member("m1", time=3, city="C3", op="u"))
    ingester.run_batch()
    assert members(sprint_catalog) == [("m1", "C1", "d", True)]
    landing.land(member("m1", time=10, city="C7"))
    ingester.run_batch()
    assert members(sprint_catalog) == [("m1", "C7", "c", False)]


def test_refused_lines_stand_in_quarantine_with_file_line_and_reason(
    sprint_catalog: Catalog, ingester: Ingester, landing: Landing
) -> None:
    landing.land(member("m1", time=1), "{broken", "", member("m2", time=2).replace('"An"', "17"))
    (result,) = ingester.run_batch()
    assert result.rows_rejected == 2
    kept = sprint_catalog.table(QUARANTINE).scan().collect().sort("line")
    assert kept.select("source_file", "line", "target", "raw").rows()[0] == (
        "member/000001.jsonl",
        2,
        "ods.member",
        "{broken",
    )
    assert kept["line"].to_list() == [2, 4]
    assert "name is no STRING: 17" in kept["reason"][1]
    assert counts(sprint_catalog.table(QUARANTINE)) == {"ods.member": 2}


def city(key: str, name: str) -> str:
    row = {"id": key, "name": name, "province": None}
    return json.dumps({"op": "c", "before": None, "after": row, "source": {"ts_ms": 1}})


def test_a_table_that_needs_a_decision_stops_no_other(sprint_catalog: Catalog, landing: Landing) -> None:
    """Members' second file lacks columns: what was before it is landed, and cities go on."""
    landing.land(member("m1", time=1))
    pl.DataFrame({"id": ["m2"]}).write_parquet(landing.folder / "member" / "000002.parquet")
    (landing.folder / "city").mkdir()
    (landing.folder / "city" / "1.jsonl").write_text(city("C1", "Porto"))
    ingester = Ingester(sprint_catalog, LandingSource(str(landing.folder)), [MEMBERS, CITIES])
    assert [result.target for result in ingester.run_batch()] == ["ods.member", "dim.city"]
    (landing.folder / "city" / "2.jsonl").write_text(city("C2", "Faro"))
    assert ingester.waiting() == ["ods.member", "dim.city"]
    landed: list[str] = []
    with pytest.raises(SourceSchemaChanged, match=r"file member/000002\.parquet lacks"):
        landed.extend(result.target for result in Loop([IngestMover(ingester)], Limits()).results())
    assert landed == ["dim.city"]
    (landing.folder / "city" / "3.jsonl").write_text(city("C3", "Braga"))
    told: list[str] = []
    tolerant = Loop([IngestMover(ingester)], Limits(), tolerant=True, on_error=lambda _, error: told.append(str(error)))
    assert [result.target for result in tolerant.results()] == ["dim.city"]
    assert len(told) == 1
    assert list(tolerant.troubles) == [ingester.source.name]
    assert sprint_catalog.table("dim.city").scan().collect()["name"].sort().to_list() == ["Braga", "Faro", "Porto"]
    assert members(sprint_catalog) == [("m1", "C1", "c", False)]


class CountedFolder(LandingSource):
    """A landing folder that notes which tables are read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.read_tables: list[str] = []

    def read(self, tables: Sequence[tuple[SourceTable, str | None]], *, max_rows: int) -> Mapping[str, SourceBatch]:
        self.read_tables += [table.name for table, _ in tables]
        return super().read(tables, max_rows=max_rows)


@pytest.mark.parametrize("tolerant", [False, True])
def test_a_stopped_table_is_tried_now_and_then_while_the_others_move_at_their_pace(
    sprint_catalog: Catalog, landing: Landing, *, tolerant: bool
) -> None:
    pl.DataFrame({"id": ["m2"]}).write_parquet(landing.folder / "member" / "1.parquet")
    (landing.folder / "city").mkdir()
    for number in range(40):
        (landing.folder / "city" / f"{number:02d}.jsonl").write_text(city(f"C{number}", "Porto"))
    source = CountedFolder(landing.folder)
    loop = Loop(
        [IngestMover(Ingester(sprint_catalog, source, [MEMBERS, CITIES], max_rows=1))], Limits(), tolerant=tolerant
    )
    with nullcontext() if tolerant else pytest.raises(SourceSchemaChanged, match="lacks"):
        list(loop.results())
    assert sprint_catalog.table("dim.city").scan().collect().height == 40
    assert "file member/1.parquet lacks" in str(loop.troubles[source.name].error)
    assert source.read_tables.count("city") > 40
    assert source.read_tables.count("member") < 20


@pytest.mark.parametrize("after", [0, 1, 2], ids=["before all", "after the quarantine", "after the rows"])
def test_a_killed_batch_is_done_once(
    sprint_catalog: Catalog, ingester: Ingester, landing: Landing, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    landing.land(member("m1", time=1), "broken")
    write, writes = Table.write, 0

    def dying(table: Table, *args: object, **settings: object) -> object:
        nonlocal writes
        if writes == after:
            raise Killed
        writes += 1
        result = write(table, *args, **settings)  # type: ignore[arg-type]
        if writes == after == 2:
            raise Killed
        return result

    monkeypatch.setattr(Table, "write", dying)
    with pytest.raises(Killed):
        ingester.run_batch()
    monkeypatch.undo()
    again = Ingester(sprint_catalog, ingester.source, [MEMBERS])
    again.run_batch()
    assert members(sprint_catalog) == [("m1", "C1", "c", False)]
    assert counts(sprint_catalog.table(QUARANTINE)) == {"ods.member": 1}
    commits = sprint_catalog.table("ods.member").snapshots()
    own = commits.filter((pl.col("commit_user") == MEMBERS.name) & (pl.col("commit_kind") == "APPEND"))
    assert own.height == 1


def test_overlapping_runs_land_each_file_once(sprint_catalog: Catalog, landing: Landing) -> None:
    for number in range(6):
        landing.land(member(f"m{number}", time=number + 1))
    errors: list[BaseException] = []

    def run() -> None:
        ingester = Ingester(sprint_catalog, LandingSource(str(landing.folder)), [MEMBERS], max_rows=1)
        try:
            while ingester.run_batch():
                pass
        except StorageEngineError as error:
            errors.append(error)

    threads = [Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    commits = sprint_catalog.table("ods.member").snapshots()
    own = commits.filter((pl.col("commit_user") == MEMBERS.name) & (pl.col("commit_kind") == "APPEND"))
    assert own["commit_identifier"].to_list() == [1, 2, 3, 4, 5, 6]
    assert len(members(sprint_catalog)) == 6


def test_waiting_tells_which_tables_have_news(ingester: Ingester, landing: Landing) -> None:
    assert ingester.waiting() == []
    landing.land(member("m1", time=1))
    assert ingester.waiting() == ["ods.member"]
    ingester.run_batch()
    assert ingester.waiting() == []


def test_a_reload_brings_back_what_was_lost_and_may_be_repeated(
    sprint_catalog: Catalog, ingester: Ingester, landing: Landing
) -> None:
    landing.land(member("m1", time=1), member("m1", time=4, city="C4", op="u"), member("m2", time=2))
    ingester.run_batch()
    good = members(sprint_catalog)
    sprint_catalog.table("ods.member").delete(pl.col("id") == "m1")
    for _ in range(2):
        result = ingester.reload(MEMBERS, pl.col("id") == "m1")
        assert result is not None
        assert result.rows_written == {"+I": 2}
        assert members(sprint_catalog) == good
    assert ingester.run_batch() == []


def test_orders_land_in_their_partitions(sprint_catalog: Catalog, landing: Landing) -> None:
    row = {
        "v_date": "2024-01-29", "id": "O1", "member_id": "m1", "agent_id": "a1", "product_id": "p1", "sprint_id": "s1",
        "order_type": "new", "quantity": 1, "amount": "1.0000", "status": "paid", "event_time": 1,
    }  # fmt: skip
    lines = [
        json.dumps({"op": "c", "before": None, "after": {**row, "v_date": day}, "source": {"ts_ms": 1}})
        for day in ("2024-01-29", "2024-01-30", "../../etc")
    ]
    (landing.folder / "member_order").mkdir()
    (landing.folder / "member_order" / "000001.jsonl").write_text("\n".join(lines))
    (result,) = Ingester(sprint_catalog, LandingSource(str(landing.folder)), [ORDERS]).run_batch()
    assert result.partitions == ({"v_date": "2024-01-29"}, {"v_date": "2024-01-30"})
    assert result.rows_rejected == 1

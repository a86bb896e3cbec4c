"""A loop whose movers move abreast: who may move beside whom, what is told, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest

from lakehouse_assets.stream.declaration import Stream
from lakehouse_assets.stream.lanes import Lanes, Mover
from lakehouse_assets.stream.loop import Limits, Loop, StreamMover
from lakehouse_assets.stream.runner import BatchResult, StreamRunner
from storage_engine import Catalog
from storage_engine.errors import StorageUnavailable

OPTIONS = {"bucket": "1", "changelog-producer": "lookup"}


@dataclass
class Fake:
    """A mover that does what it is told, once a call; then nothing is left."""

    name: str
    targets: frozenset[str]
    steps: list[Callable[[], list[BatchResult]]]
    poll_s: float = 0.001
    moves: int = field(default=0)

    def stirred(self) -> bool:
        return self.moves < len(self.steps)

    def note_seen(self) -> None: ...

    def move(self) -> list[BatchResult]:
        number, self.moves = self.moves, self.moves + 1
        return self.steps[number]() if number < len(self.steps) else []


def fake(name: str, *steps: Callable[[], list[BatchResult]], targets: str = "") -> Fake:
    return Fake(name=name, targets=frozenset((targets or name,)), steps=list(steps))


@pytest.fixture
def batch(tmp_path: Path) -> BatchResult:
    """A result, of whatever stream."""
    catalog = tables(tmp_path / "of-a-batch")
    catalog.table("db.t0").write(pl.DataFrame({"id": [1], "n": [1]}))
    result = StreamRunner(catalog, chain(1)[0]).run_batch()
    assert result is not None
    return result


def tables(folder: Path, count: int = 2) -> Catalog:
    catalog = Catalog(str(folder))
    catalog.create_database("db")
    for number in range(count):
        columns = {"id": "BIGINT", "n": "BIGINT"}
        catalog.create_table(f"db.t{number}", columns, primary_key=["id"], options=OPTIONS)
    return catalog


def chain(length: int) -> list[Stream]:
    return [
        Stream(source=f"db.t{number}", target=f"db.t{number + 1}", transform=lambda rows: rows)
        for number in range(length)
    ]


def run(*movers: Mover, abreast: int = 2, tolerant: bool = False) -> list[BatchResult]:
    return list(Loop(movers, Limits(), abreast=abreast, tolerant=tolerant).results())


def test_so_many_movers_move_at_the_same_time(batch: BatchResult) -> None:
    """Each waits until all of the others move, too."""
    together = threading.Barrier(3, timeout=60)

    def met() -> list[BatchResult]:
        together.wait()
        return [batch]

    assert run(*(fake(name, met) for name in "abc"), abreast=3) == [batch] * 3


def test_movers_of_one_target_take_turns(batch: BatchResult) -> None:
    moving: set[str] = set()
    others_began = threading.Barrier(2, timeout=60)

    def alone(name: str) -> list[BatchResult]:
        moving.add(name)
        if name == "a":
            others_began.wait()
        assert not {"a", "b"} <= moving
        moving.discard(name)
        return [batch]

    def beside() -> list[BatchResult]:
        others_began.wait()
        return [batch]

    movers = fake("a", lambda: alone("a"), targets="t"), fake("b", lambda: alone("b"), targets="t"), fake("c", beside)
    assert len(run(*movers)) == 3


def test_nobody_is_a_round_ahead_of_the_others(batch: BatchResult) -> None:
    ended: list[str] = []

    def step(name: str) -> Callable[[], list[BatchResult]]:
        def ends() -> list[BatchResult]:
            ended.append(name)
            return [batch]

        return ends

    run(*(fake(name, *[step(name)] * 20) for name in "abc"))
    assert [set(ended[at : at + 3]) for at in range(0, 60, 3)] == [set("abc")] * 20


def test_who_follows_a_long_move_moves_again_meanwhile(batch: BatchResult) -> None:
    """What a long move brought the last time may be more than one batch of those behind it; those before it wait."""
    followed = threading.Event()
    ended: list[str] = []

    def told(name: str) -> list[BatchResult]:
        ended.append(name)
        return [batch]

    def long() -> list[BatchResult]:
        assert followed.wait(60)
        return told("long")

    def third() -> list[BatchResult]:
        followed.set()
        return told("behind")

    before = fake("before", lambda: told("before"), lambda: told("before"))
    behind = fake("behind", lambda: told("behind"), lambda: told("behind"), third)
    assert len(run(before, fake("long", long), behind)) == 6
    assert ended == ["before", "behind", "behind", "behind", "long", "before"]


def test_the_first_error_ends_the_loop_when_all_that_was_committed_is_told(batch: BatchResult) -> None:
    begun = threading.Barrier(2, timeout=60)

    def fails() -> list[BatchResult]:
        begun.wait()
        raise StorageUnavailable("no disk")

    def commits() -> list[BatchResult]:
        begun.wait()
        return [batch]

    told: list[BatchResult] = []
    loop = Loop([fake("a", fails), fake("b", commits)], Limits(), abreast=2)
    with pytest.raises(StorageUnavailable, match="no disk"):
        told.extend(iter(loop.results()))
    assert told == [batch]


def test_a_tolerant_loop_tries_again_and_goes_on_meanwhile(batch: BatchResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakehouse_assets.stream.loop.FIRST_PAUSE_S", 0.01)

    def fails() -> list[BatchResult]:
        raise StorageUnavailable("no disk")

    said: list[str] = []
    movers = [fake("a", fails, fails, lambda: [batch]), fake("b", *[lambda: [batch]] * 5)]
    loop = Loop(
        movers,
        Limits(
            linger_s=60.0,
            make_way=lambda: all(mover.moves >= len(mover.steps) for mover in movers),
            make_way_every_s=0.0,
        ),
        tolerant=True,
        abreast=2,
        on_error=lambda mover, error: said.append(f"{mover.name}: {error}"),
    )
    assert len(list(loop.results())) == 6
    assert said == ["a: no disk"] * 2
    assert loop.troubles == {}


def test_who_stops_asking_waits_for_those_who_move(batch: BatchResult) -> None:
    """A loop that is left does not go on behind one's back."""
    begun, released, ended = threading.Event(), threading.Event(), threading.Event()

    def quick() -> list[BatchResult]:
        begun.wait(60)
        return [batch]

    def slow() -> list[BatchResult]:
        begun.set()
        released.wait(60)
        ended.set()
        return [batch]

    results = Loop([fake("a", quick), fake("b", slow)], Limits(), abreast=2).results()
    assert isinstance(results, Generator)
    assert next(results) is batch
    threading.Timer(0.05, released.set).start()
    results.close()
    assert ended.is_set()


def test_batches_that_are_counted_are_moved_one_by_one(batch: BatchResult) -> None:
    movers = [fake(name, *[lambda: [batch]] * 5) for name in "abc"]
    assert len(list(Loop(movers, Limits(max_batches=4), abreast=3).results())) == 4
    assert [mover.moves for mover in movers] == [2, 1, 1]


def test_a_single_lane_is_the_callers_thread() -> None:
    seen: list[int] = []

    def look() -> list[BatchResult]:
        seen.append(threading.get_ident())
        return []

    mover = fake("a", look)
    with Lanes(1) as lanes:
        assert [moved.mover for moved in lanes.round([mover], lambda _: True)] == [mover]
    assert seen == [threading.get_ident()]


def test_a_chain_that_moves_abreast_brings_every_change_through_once(tmp_path: Path) -> None:
    catalog = tables(tmp_path, 4)
    source = Catalog(str(tmp_path)).table("db.t0")

    def fill() -> None:
        for number in range(12):
            source.write(pl.DataFrame({"id": range(number, number + 5), "n": [number] * 5}))

    writer = threading.Thread(target=fill)
    writer.start()
    movers = [StreamMover(StreamRunner(catalog, stream)) for stream in chain(3)]
    moved = list(Loop(movers, Limits(linger_s=0.5), abreast=3).results())
    writer.join()
    assert moved + run(*movers, abreast=3)
    expected = source.scan().collect().sort("id")
    for number in (1, 2, 3):
        table = catalog.table(f"db.t{number}")
        assert table.scan().collect().sort("id").equals(expected)
        came = pl.when(pl.col("_row_kind").is_in(["+I", "+U"])).then(1).otherwise(-1)
        sums = table.changes(0).collect().group_by("id", "n").agg(came.sum().alias("count"))
        assert sums.filter(pl.col("count") != 0).sort("id").equals(expected.with_columns(count=1)), (
            "no change came twice"
        )

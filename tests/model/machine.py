"""The machine that works on a table at random, by every way in, beside a plain model of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import polars as pl
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage_engine import Table
from storage_engine.maintenance import orphans
from storage_engine.spec.manifest import CommitMessage
from storage_engine.spec.schema_change import AddColumn, RenameColumn, SetOption, UpdateColumnType
from storage_engine.spec.types import parse_type
from tests.model.table_model import COLUMNS, Key, Row, Rows, State, Variant, allowed, frame_of
from tests.model.warehouse import empty_warehouse
from tests.storage_engine.kernel.merge_models import DELETE, INSERT, KIND, UPDATE_AFTER, Record
from tests.storage_engine.maintenance.metadata_table import MetadataTable

DAYS = ("2024-01-01", "2024-01-02")
FAR_FUTURE = 4_000_000_000_000
MAIN, BRANCH = "main", "repair"
JOB = "job"
ADDED, RENAMED, WIDENED = "more", ("name", "amount"), "n"
RESERVED = st.integers(20, 22)
"""Keys that are only written by who commits late."""


def batches(ids: st.SearchStrategy[int], most: int = 10) -> st.SearchStrategy[list[Row]]:
    return st.lists(
        st.tuples(
            st.sampled_from(DAYS),
            ids,
            st.none() | st.text("ab\u00e9", max_size=3),
            st.none() | st.decimals(-999, 999, places=4),
            st.none() | st.integers(-9, 9),
            st.integers(0, 5),
            st.none() | st.integers(0, 3),
            st.sampled_from(["+I", "+I", "+U", "-D", "-U"]),
        ),
        max_size=most,
    )


rows = batches(st.integers(0, 9))
picks = st.integers(0, 1000)


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds at a snapshot: what is told, what is seen, what the changelog has told; the columns' names then; what the
    job has committed."""

    state: State
    rows: Rows
    told: dict[Key, Row]
    names: dict[str, str]
    identifier: int | None
    complete: bool = True


@dataclass(slots=True)
class Line:
    """Main, or a branch: the model of its newest state, and of each snapshot and tag that is kept."""

    table: Table
    state: State
    names: dict[str, str]
    told: dict[Key, Row] = field(default_factory=dict)
    told_until: int = 0
    identifier: int | None = None
    moments: dict[int, Moment] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    tagged: dict[str, Moment] = field(default_factory=dict)

    def go_to(self, snapshot: int, moment: Moment) -> None:
        self.state, self.identifier = moment.state, moment.identifier
        self.told, self.told_until = dict(moment.told), snapshot


class TableMachine(RuleBasedStateMachine):
    """One table of a variant under random work; the model is a merge of all records, one after the other."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.options = variant.schema.table_options
        self.hides_level0 = self.options.deletion_vectors or self.options.merge_engine == "first-row"
        self.producer = self.options.changelog_producer.value
        self.is_dynamic = variant.options.get("bucket") == "-1"
        self.names = count()
        self.prepared: tuple[list[CommitMessage], list[Record]] | None = None
        self.had_branches = self.brought_back = False

    @initialize()
    def create(self) -> None:
        self.catalog = empty_warehouse()
        self.catalog.create_table(
            "db.t",
            {name: text for name, text in COLUMNS.items() if name != ADDED},
            primary_key=["day", "id"],
            partitioned_by=["day"],
            options={"bucket": "2", **self.variant.options},
        )
        names = {name: name for name in COLUMNS if name != ADDED}
        self.lines = {MAIN: Line(self.catalog.table("db.t"), State(self.variant.schema), names)}
        self.here = MAIN

    @property
    def line(self) -> Line:
        return self.lines[self.here]

    @property
    def table(self) -> Table:
        return self.line.table

    def opened_again(self) -> Table:
        """The same table as another writer sees it."""
        return self.catalog.table("db.t", None if self.here == MAIN else self.here)

    # -- rows ----------------------------------------------------------------------------------------------------------

    @rule(batch=rows, anew=st.booleans())
    def write(self, batch: list[Row], anew: bool) -> None:
        table = self.opened_again() if anew else self.table
        self._write(table, allowed(batch, self.line.state, self.variant))
        self._remember()

    @rule(batch=rows, later=st.integers(1, 3))
    def write_twice_with_one_identifier(self, batch: list[Row], later: int) -> None:
        records = allowed(batch, self.line.state, self.variant)
        frame = self._frame(records)
        self.line.identifier = (self.line.identifier or 0) + later
        committed = {"commit_user": JOB, "commit_identifier": self.line.identifier}
        assert self.table.write(frame, **committed) is not None
        assert self.opened_again().write(frame, **committed) is None
        self.line.state = self.line.state.after(records)
        self._remember()

    @rule(first=rows, second=rows, full=st.booleans())
    def write_and_compact_elsewhere(self, first: list[Row], second: list[Row], full: bool) -> None:
        """``write-only`` writers, whose rows wait for a compaction in another process."""
        self.table.alter(SetOption(key="write-only", value="true"))
        before = self.line.state
        for batch in (first, second):
            self._write(self.table, allowed(batch, self.line.state, self.variant))
            shown = before if self.hides_level0 else self.line.state
            self._remember_waiting(shown)
        self.table.alter(SetOption(key="write-only", value="false"))
        self.opened_again().compact(full=full or self.producer == "full-compaction")
        self._remember()

    @precondition(lambda self: not self.is_dynamic and self.prepared is None)
    @rule(batch=batches(RESERVED, 4))
    def prepare(self, batch: list[Row]) -> None:
        """Rows that are written now and committed later."""
        records = allowed(batch, self.line.state, self.variant)
        if records:
            write = self.opened_again().new_write()
            write.write(self._frame(records))
            self.prepared = write.prepare_commit(), records

    @precondition(lambda self: self.prepared is not None)
    @rule()
    def commit_late(self) -> None:
        assert self.prepared is not None
        messages, records = self.prepared
        self.prepared = None
        self.table.commit(messages)
        self.line.state = self.line.state.after(records)
        self._remember()

    @rule(day=st.sampled_from(DAYS), batch=rows)
    def overwrite(self, day: str, batch: list[Row]) -> None:
        chosen = [(day, *row[1:-1], "+I") for row in batch[:3]]
        records = allowed(chosen, self.line.state, self.variant)
        self.table.overwrite(self._frame(records).drop("_row_kind"), partitions=[{"day": day}])
        self.line.state = self.line.state.without(day).after(records)
        self._tell(skip=day)
        self._remember()

    @precondition(lambda self: self._is_plain)
    @rule(id_=st.integers(0, 9), anew=st.booleans())
    def delete(self, id_: int, anew: bool) -> None:
        (self.opened_again() if anew else self.table).delete(pl.col("id") == id_)
        self.line.state = self.line.state.after([{**record, KIND: DELETE} for record in self._rows_of(id_)])
        self._remember()

    @precondition(lambda self: self._is_plain)
    @rule(id_=st.integers(0, 9), n=st.integers(0, 9))
    def update(self, id_: int, n: int) -> None:
        self.table.update(pl.col("id") == id_, {"n": pl.lit(n)})
        self.line.state = self.line.state.after(
            [{**record, KIND: UPDATE_AFTER, "n": n} for record in self._rows_of(id_)]
        )
        self._remember()

    # -- upkeep --------------------------------------------------------------------------------------------------------

    @rule(full=st.booleans(), anew=st.booleans())
    def compact(self, full: bool, anew: bool) -> None:
        (self.opened_again() if anew else self.table).compact(full=full)
        self._remember()
        if full and self.producer == "full-compaction":
            assert frozenset(self.line.told.values()) == self.line.state.rows()

    @rule(keep=st.integers(1, 4))
    def expire(self, keep: int) -> None:
        self.table.expire_snapshots(retain_max=keep, retain_min=1)
        self.line.moments = {id_: self.line.moments[id_] for id_ in self._kept_ids()}

    @precondition(lambda self: self._kept_ids())
    @rule(pick=picks)
    def tag(self, pick: int) -> None:
        ids = self._kept_ids()
        name, chosen = f"t{next(self.names)}", ids[pick % len(ids)]
        self.table.create_tag(name, chosen)
        self.line.tags[name], self.line.tagged[name] = chosen, self.line.moments[chosen]

    @precondition(lambda self: self.line.tags)
    @rule(pick=picks)
    def delete_tag(self, pick: int) -> None:
        name = sorted(self.line.tags)[pick % len(self.line.tags)]
        self.table.delete_tag(name)
        del self.line.tags[name], self.line.tagged[name]

    @precondition(lambda self: self._complete_ids())
    @rule(pick=picks, to_tag=st.booleans())
    def roll_back(self, pick: int, to_tag: bool) -> None:
        line, ids = self.line, self._complete_ids()
        tags = sorted(name for name, moment in line.tagged.items() if moment.complete)
        if to_tag and tags:
            name = tags[pick % len(tags)]
            target, moment = line.tags[name], line.tagged[name]
            self.brought_back |= target not in self.table.store.snapshots.ids()
            self.table.rollback_to(name)
        else:
            target = ids[pick % len(ids)]
            moment = line.moments[target]
            self.table.rollback_to(target)
        line.go_to(target, moment)
        line.moments = {**{id_: at for id_, at in line.moments.items() if id_ < target}, target: moment}
        line.tags = {name: id_ for name, id_ in line.tags.items() if id_ <= target}
        line.tagged = {name: line.tagged[name] for name in line.tags}

    @rule()
    def remove_orphans(self) -> None:
        self.prepared = None
        self._remove_orphans()

    # -- branches ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: BRANCH not in self.lines and self._complete_tags())
    @rule(pick=picks)
    def create_branch(self, pick: int) -> None:
        main, tags = self.lines[MAIN], self._complete_tags()
        name = tags[pick % len(tags)]
        self.brought_back |= main.tags[name] not in main.table.store.snapshots.ids()
        main.table.create_branch(BRANCH, name)
        id_, moment = main.tags[name], main.tagged[name]
        branch = Line(self.catalog.table("db.t", BRANCH), moment.state, dict(moment.names))
        branch.go_to(id_, moment)
        branch.moments, branch.tags, branch.tagged = {id_: moment}, {name: id_}, {name: moment}
        self.lines[BRANCH] = branch
        self.had_branches = True
        self._go(BRANCH)

    @precondition(lambda self: BRANCH in self.lines)
    @rule()
    def switch(self) -> None:
        self._go(MAIN if self.here == BRANCH else BRANCH)

    @precondition(lambda self: BRANCH in self.lines)
    @rule(forward=st.booleans())
    def end_branch(self, forward: bool) -> None:
        """Main becomes what the branch is, or the branch goes without a trace."""
        main, branch = self.lines[MAIN], self.lines[BRANCH]
        if forward:
            main.table.fast_forward(BRANCH)
            first = min(branch.moments)
            main.state, main.names, main.identifier = branch.state, branch.names, branch.identifier
            main.told, main.told_until = branch.told, branch.told_until
            main.moments = {**{id_: at for id_, at in main.moments.items() if id_ < first}, **branch.moments}
            main.tags = {**{name: id_ for name, id_ in main.tags.items() if id_ <= first}, **branch.tags}
            main.tagged = {name: {**main.tagged, **branch.tagged}[name] for name in main.tags}
        main.table.delete_branch(BRANCH)
        del self.lines[BRANCH]
        self._go(MAIN)

    # -- schema --------------------------------------------------------------------------------------------------------

    @precondition(lambda self: ADDED not in self.line.names)
    @rule()
    def add_column(self) -> None:
        self.table.alter(AddColumn(path=(ADDED,), type=parse_type("INT")))
        self.line.names[ADDED] = ADDED

    @rule(column=st.sampled_from(RENAMED))
    def rename_column(self, column: str) -> None:
        names = self.line.names
        renamed = f"{column}_" if names[column] == column else column
        self.opened_again().alter(RenameColumn(path=(names[column],), new_name=renamed))
        names[column] = renamed

    @rule()
    def widen_column(self) -> None:
        if self.table.schema.by_name[WIDENED].type.sql == "INT":
            self.table.alter(UpdateColumnType(path=(WIDENED,), type=parse_type("BIGINT")))

    # -- what must hold ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self._kept_ids()) > 1)
    @rule(one=picks, two=picks)
    def look_back(self, one: int, two: int) -> None:
        """Earlier snapshots and tags read as they did, and the difference of two leads from one to the other."""
        line, ids = self.line, self._kept_ids()
        earlier, later = sorted((ids[one % len(ids)], ids[two % len(ids)]))
        assert self._scanned(snapshot=earlier) == line.moments[earlier].rows
        for name in sorted(line.tags)[:2]:
            assert self._scanned(tag=name) == line.tagged[name].rows
        state = {row[:2]: row for row in line.moments[earlier].rows}
        self._replay(self.table.changes(earlier, later, mode="diff").collect(), state)
        assert frozenset(state.values()) == line.moments[later].rows

    @invariant()
    def reads_equal_the_model(self) -> None:
        assert self._scanned() == self.line.state.rows()
        assert self.table.last_committed(JOB) == self.line.identifier

    def teardown(self) -> None:
        for name in list(getattr(self, "lines", {})):
            self._go(name)
            assert self.table.verify().is_empty()
            for id_, moment in list(self.line.moments.items())[:3]:
                assert self._scanned(snapshot=id_) == moment.rows
            self._remove_orphans()
            assert self._scanned() == self.line.state.rows()

    # -- helpers -------------------------------------------------------------------------------------------------------

    @property
    def _is_plain(self) -> bool:
        return self.options.merge_engine == "deduplicate" and not self.options.ignore_delete

    def _go(self, name: str) -> None:
        if self.here != name:
            self.here, self.prepared = name, None

    def _write(self, table: Table, records: list[Record]) -> None:
        table.write(self._frame(records))
        self.line.state = self.line.state.after(records)

    def _frame(self, records: list[Record]) -> pl.DataFrame:
        """Records as a frame of the newest schema; a column that is not there yet holds nothing."""
        for record in records:
            if ADDED not in self.line.names:
                record[ADDED] = None
        return frame_of(records, self.line.names, self.table.schema.polars_schema)

    def _rows_of(self, id_: int) -> list[Record]:
        found = [row for day in DAYS if (row := self.line.state.row((day, id_))) is not None]
        return [{**dict(zip(COLUMNS, row, strict=True)), KIND: INSERT} for row in found]

    def _scanned(self, **moment: Any) -> Rows:
        frame = self.table.scan(**moment).collect()
        found = frozenset(self._as_rows(frame))
        assert len(found) == frame.height
        assert len({row[:2] for row in found}) == frame.height, "a key is there twice"
        return found

    def _as_rows(self, frame: pl.DataFrame) -> list[Row]:
        names = self.line.names
        columns = [pl.col(names[name]).alias(name) if name in names else pl.lit(None).alias(name) for name in COLUMNS]
        return frame.select(columns).rows()

    def _kept_ids(self) -> list[int]:
        """The snapshots whose rows are known, of those that are kept."""
        if not hasattr(self, "lines"):
            return []
        return [id_ for id_ in self.table.store.snapshots.ids() if id_ in self.line.moments]

    def _complete_ids(self) -> list[int]:
        return [id_ for id_ in self._kept_ids() if self.line.moments[id_].complete]

    def _complete_tags(self) -> list[str]:
        if not hasattr(self, "lines"):
            return []
        return sorted(name for name, moment in self.lines[MAIN].tagged.items() if moment.complete)

    def _remember(self) -> None:
        """A commit is done: tombstones may be dropped, the changelog tells what it does, and the snapshot has a model."""
        latest = self.table.latest_snapshot()
        if latest is None:
            return
        line = self.line
        if self.variant.drops_tombstones:
            line.state = line.state.forgetting(line.state.gone() - self._tombstones())
        self._tell()
        moment = Moment(line.state, line.state.rows(), dict(line.told), dict(line.names), line.identifier)
        if self.producer == "lookup":
            assert frozenset(line.told.values()) == moment.rows
        known = line.moments.setdefault(latest.id, moment)
        assert known.rows == moment.rows

    def _remember_waiting(self, shown: State) -> None:
        latest = self.table.latest_snapshot()
        if latest is not None and latest.id not in self.line.moments:
            line = self.line
            moment = Moment(
                line.state, shown.rows(), dict(line.told), dict(line.names), line.identifier, complete=False
            )
            line.moments[latest.id] = moment
            assert self._scanned() == moment.rows

    def _tell(self, skip: str | None = None) -> None:
        """Apply the changelog since the last time; ``skip``: a day that was overwritten, of which it says nothing."""
        line, latest = self.line, self.table.latest_snapshot()
        if latest is None or latest.id <= line.told_until:
            return
        changes = self.table.changes(line.told_until, latest.id).collect()
        line.told_until = latest.id
        if self.producer in ("lookup", "full-compaction"):
            self._replay(changes, line.told)
            if skip is not None:
                others = {key: row for key, row in line.told.items() if key[0] != skip}
                line.told = {**others, **{row[:2]: row for row in line.state.rows() if row[0] == skip}}

    def _replay(self, changes: pl.DataFrame, state: dict[Key, Row]) -> None:
        """Apply changes to rows: each insert is new, each retraction takes back the very row that is there."""
        for kind, row in zip(changes["_row_kind"], self._as_rows(changes), strict=True):
            if kind in ("+I", "+U"):
                assert row[:2] not in state, f"{kind} of {row}, which is there"
                state[row[:2]] = row
            else:
                assert state.pop(row[:2], None) == row, f"{kind} of {row}, which is not there"

    def _tombstones(self) -> set[Key]:
        """Keys whose retraction still stands in a file; read from the files themselves."""
        found: set[Key] = set()
        for path in self.table.files()["file_path"]:
            rows = pl.read_parquet(self.table.store.io.read_bytes(path), columns=["day", "id", "_VALUE_KIND"])
            found |= set(rows.filter(pl.col("_VALUE_KIND").is_in([1, 3])).select("day", "id").iter_rows())
        return found

    def _remove_orphans(self) -> None:
        """Nothing that is kept needs what goes, and nothing else stays."""
        main = self.lines[MAIN].table.store
        orphans.remove_orphan_files(main, older_than_millis=FAR_FUTURE, now_millis=FAR_FUTURE)
        MetadataTable(main.io, main.paths.root).check_no_leftovers(
            had_branches=self.had_branches, brought_back=self.brought_back
        )


def machine_of(variant: Variant) -> Callable[[], TableMachine]:
    return partial(TableMachine, variant)

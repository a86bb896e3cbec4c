"""A folder of ``*.sql`` files → tables, streams and batch statements, and a ``Project`` of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import dagster as dg

from lakehouse_assets.batch_insert import BatchInsert
from lakehouse_assets.checks import Check
from lakehouse_assets.ddl import QUARANTINE_DDL
from lakehouse_assets.flink_sql.batches import batch_of, is_batch
from lakehouse_assets.flink_sql.errors import NotIncremental
from lakehouse_assets.flink_sql.plans import plans_of
from lakehouse_assets.flink_sql.relation import Relations, projected
from lakehouse_assets.flink_sql.script import DeclaredInsert, DeclaredTable, Script
from lakehouse_assets.flink_sql.shared_targets import streams_of
from lakehouse_assets.ingest import QUARANTINE, Ingestion
from lakehouse_assets.project import Project
from lakehouse_assets.resources import ChangesResource
from lakehouse_assets.stream.declaration import Stream
from storage_engine.errors import InvalidInput
from storage_engine.options import ChangelogProducer
from storage_engine.spec.schema import TableSchema
from storage_engine.sql.show import create_table_text

PRODUCER = "changelog-producer"


@dataclass(frozen=True, kw_only=True)
class SqlProject:
    """What a team's SQL declares. ``tables``: with the options that streams need (see ``read_project``).

    ``ingestions``: of tables with a connector, and ``changes``: the source that they name (None: there are none).
    """

    name: str
    tables: Mapping[str, TableSchema]
    streams: tuple[Stream, ...]
    batches: tuple[BatchInsert, ...] = ()
    ingestions: tuple[Ingestion, ...] = ()
    changes: ChangesResource | None = None
    added: tuple[str, ...] = field(default=())
    """Tables that got ``'changelog-producer' = 'lookup'``, since a stream reads them and they named none."""

    @property
    def ddl(self) -> str:
        """Statements that make the databases and tables that are missing."""
        return self._ddl(self.ingestions)

    def _ddl(self, ingestions: Sequence[Ingestion]) -> str:
        databases = dict.fromkeys(name.partition(".")[0] for name in self.tables)
        created = [f"CREATE DATABASE IF NOT EXISTS `{name}`;" for name in databases]
        if ingestions and QUARANTINE not in self.tables:
            created.append(QUARANTINE_DDL)
        for name, schema in self.tables.items():
            text = create_table_text(name, schema)
            created.append(text.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1) + ";")
        return "\n".join(created)

    def project(
        self,
        *,
        partitions: Mapping[str, dg.TimeWindowPartitionsDefinition] | None = None,
        ingestions: Sequence[Ingestion] = (),
        streams: Sequence[Stream] = (),
        checks: Mapping[str, Mapping[str, Check]] | None = None,
    ) -> Project:
        """As assets, with what SQL does not say: partitions of the assets, ingestions, streams written in Python."""
        return Project(
            name=self.name,
            ddl=self._ddl([*self.ingestions, *ingestions]),
            ingestions=(*self.ingestions, *ingestions),
            streams=(*self.streams, *streams),
            batches=self.batches,
            partitions=partitions or {},
            checks=checks or {},
        )


def load_project(folder: str | Path, *, name: str | None = None, database: str = "default") -> SqlProject:
    """The project of a folder: its ``*.sql`` files, in the order of their names, folders within included.

    ``database``: of names that have none. Raises SqlError and NotIncremental with file, line and column; and InvalidInput
    if there is no file.
    """
    root = Path(folder)
    files = sorted(root.rglob("*.sql")) if root.is_dir() else [root]
    if not files or not files[0].exists():
        raise InvalidInput(f"{root} has no *.sql files")
    base = root if root.is_dir() else root.parent
    return read_project(texts_of(files, base), name=name or root.stem.replace("-", "_"), database=database)


def texts_of(files: Sequence[Path], folder: Path) -> dict[str, str]:
    """The text of each file by its path within a folder. Raises InvalidInput for one that is no text."""
    found: dict[str, str] = {}
    for file in files:
        try:
            found[file.relative_to(folder).as_posix()] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as cause:
            line = file.read_bytes()[: cause.start].count(b"\n") + 1
            raise InvalidInput(
                f"{file}, line {line}: this is not UTF-8 ({cause.reason}): save the file as UTF-8"
            ) from cause
    return found


def read_project(texts: Mapping[str, str], *, name: str, database: str = "default") -> SqlProject:
    """The project of some texts, by file name. A statement may name what a later file declares.

    A table that a stream reads and that names no changelog producer gets 'lookup': Flink keeps the same beside the table,
    as the state of an operator. Raises SqlError and NotIncremental.
    """
    script = Script(database=database)
    for file, text in texts.items():
        script.read(file, text)
        script.database = database
    relations = Relations(script=script, tables=script.tables)
    moving = [insert for insert in script.inserts if not is_batch(insert, relations)]
    plans = [plan for insert in moving for plan in plans_of(insert, relations)]
    streams = streams_of(plans)
    mirrors = {name for name, table in script.tables.items() if table.connected is not None}
    for plan, stream in zip(plans, streams, strict=True):
        _check_target(plan.insert, stream, mirrors)
    for selected in (each for query in script.queries for each in relations.selected(query)):
        projected(selected)
    relations.check_all()
    ordered = tuple(_in_order(streams))
    tables, added = _with_producers(script.tables, ordered)
    batches = tuple(batch_of(insert, relations) for insert in script.inserts if insert not in moving)
    ingestions, changes = _ingested(script.tables)
    return SqlProject(
        name=name,
        tables=tables,
        streams=ordered,
        batches=batches,
        ingestions=ingestions,
        changes=changes,
        added=added,
    )


def _ingested(tables: Mapping[str, DeclaredTable]) -> tuple[tuple[Ingestion, ...], ChangesResource | None]:
    """The ingestions of tables with a connector, and the one source that they name. Raises SqlError if there are two."""
    found = {name: (table, table.connected) for name, table in tables.items() if table.connected is not None}
    first: ChangesResource | None = None
    for name, (table, source) in found.items():
        first = first or source.changes
        if type(source.changes) is not type(first) or source.changes.model_dump() != first.model_dump():
            raise table.place.error(
                f"{name} is of another server, folder or format than {next(iter(found))}: a project ingests from one source;"
                " give these tables a project of their own on the same warehouse"
            )
    ingestions = tuple(
        source.ingestion(name, table.schema, str(table.place)) for name, (table, source) in found.items()
    )
    return ingestions, first


def _check_target(insert: DeclaredInsert, stream: Stream, mirrors: Collection[str]) -> None:
    """No INSERT fills a table that mirrors a source, or that it reads."""
    if stream.target in mirrors:
        raise insert.place.refusal(f"{stream.target} mirrors a source, and is filled from there: serve tables by sinks")
    if stream.target in stream.sources:
        raise insert.place.refusal(f"{stream.target} would read what it writes itself")


def _in_order(streams: Sequence[Stream]) -> list[Stream]:
    """Each stream after all those whose targets it reads. Raises NotIncremental for a circle."""
    left = list(streams)
    done: list[Stream] = []
    while left:
        unfilled = {stream.target for stream in left}
        ready = {each.name: each for each in left if not set(each.sources) & unfilled}
        if not ready:
            raise _circle(left)
        done += ready.values()
        left = [each for each in left if each.name not in ready]
    return done


def _circle(waiting: Sequence[Stream]) -> NotIncremental:
    """What is wrong with streams each of which waits for another: the statements of a circle, as data would flow."""
    trail: dict[str, Stream] = {}
    stream = waiting[0]
    while stream.name not in trail:
        trail[stream.name] = stream
        stream = next(each for each in waiting if each.target in stream.sources)
    names = list(trail)
    circle = [trail[name] for name in reversed(names[names.index(stream.name) :])]
    filled = [
        f"{each.target} is filled from {before.target} in {each.declared_at}"
        for before, each in zip([circle[-1], *circle], circle, strict=False)
    ]
    return NotIncremental(
        f"{circle[0].declared_at}: streams go in a circle, and a change would never come to rest: {'; '.join(filled)}"
    )


def _with_producers(
    declared: Mapping[str, DeclaredTable], streams: Sequence[Stream]
) -> tuple[dict[str, TableSchema], tuple[str, ...]]:
    sources = {source for stream in streams for source in stream.driving} | {
        lookup.table for stream in streams for lookup in stream.lookups if lookup.reemit
    }
    added = tuple(name for name in declared if name in sources and _lacks_producer(declared[name].schema))
    tables = {
        name: replace(table.schema, options={**table.schema.options, PRODUCER: "lookup"})
        if name in added
        else table.schema
        for name, table in declared.items()
    }
    return tables, added


def _lacks_producer(schema: TableSchema) -> bool:
    named = PRODUCER in schema.options
    none = schema.table_options.changelog_producer is ChangelogProducer.NONE
    return bool(schema.primary_keys) and none and not named

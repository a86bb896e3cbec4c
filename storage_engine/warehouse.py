"""``Warehouse``: the databases and tables in a directory, ``<warehouse>/<database>.db/<table>/``.

Spec: "Filesystem Catalog" of Apache Paimon. A table exists if it has a schema file.
"""

from __future__ import annotations

import difflib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import pyarrow as pa
from polars.datatypes import DataType as PolarsDataType
from polars.datatypes import DataTypeClass

from storage_engine.errors import (
    AlreadyExists,
    BranchNotFound,
    DatabaseNotFound,
    InvalidInput,
    InvalidSchema,
    TableNotFound,
)
from storage_engine.kernel.table_definition import check_table_definition, normalized_options
from storage_engine.spec.arrow_types import fields_from_arrow, type_from_arrow
from storage_engine.spec.identifier import DEFAULT_DATABASE, Identifier, check_name
from storage_engine.spec.schema import create_schema
from storage_engine.spec.types import DataField, DataType, parse_type
from storage_engine.store.file_io import FileIO
from storage_engine.store.paths import MAIN_BRANCH
from storage_engine.store.table_store import TableStore
from storage_engine.system_views import SystemTable, all_table_options, catalog_options, check_system_table
from storage_engine.table import Table

PolarsType: TypeAlias = PolarsDataType | DataTypeClass
Columns: TypeAlias = pa.Schema | Mapping[str, str] | Mapping[str, PolarsType] | Sequence[DataField]
_DATABASE_SUFFIX = ".db"
_DATABASE_MARKER = ".database"  # an object store has no empty directories


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A query under a name, for as long as its warehouse object lives; ``database`` is that of bare names in it."""

    text: str
    line: int
    column: int
    database: str
    columns: tuple[str, ...]


class Warehouse:
    """Databases and tables below a URL; any fsspec file system. Safe to share between threads.

    ``storage_options`` go to fsspec; they and a URL's credentials are in no repr and no message.
    """

    def __init__(self, url: str | PathLike[str], storage_options: Mapping[str, Any] | None = None) -> None:
        self._io, self._root = FileIO.from_url(fspath(url), storage_options)
        self._shown = _without_credentials(fspath(url))
        self._stores: dict[tuple[str, str], TableStore] = {}
        self._lock = threading.Lock()
        self.current_database = DEFAULT_DATABASE
        self.views: dict[str, View] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._shown!r})"

    # -- databases -----------------------------------------------------------------------------------------------------

    def list_databases(self) -> list[str]:
        """Names of all databases, sorted."""
        names = self._io.list_directories(self._root)
        return sorted(name.removesuffix(_DATABASE_SUFFIX) for name in names if _is_database(name))

    def create_database(self, name: str, ignore_if_exists: bool = False) -> None:
        """Create a database. Raises AlreadyExists, or InvalidInput for a name that cannot be a directory."""
        check_name(name, "database")
        if self._has_database(name):
            if not ignore_if_exists:
                raise AlreadyExists(f"database {name!r} exists in {self._shown}")
            return
        self._io.make_directory(self._database_path(name))
        if self._io.local_path(self._root) is None:
            self._io.overwrite(f"{self._database_path(name)}/{_DATABASE_MARKER}", b"")

    def use_database(self, name: str) -> None:
        """Let names without a database mean tables of this one. Raises DatabaseNotFound."""
        self._check_database(name)
        self.current_database = name

    def drop_database(self, name: str, *, cascade: bool = False, ignore_if_missing: bool = False) -> None:
        """Drop a database, with its tables only if ``cascade``. Raises DatabaseNotFound or InvalidInput."""
        check_name(name, "database")
        if ignore_if_missing and not self._has_database(name):
            return
        tables = self.list_tables(name)
        if tables and not cascade:
            raise InvalidInput(
                f"database {name!r} holds {len(tables)} tables ({', '.join(tables[:5])}): drop them first, or use CASCADE"
            )
        for table in tables:
            self.drop_table(f"{name}.{table}")
        self._io.delete_directory(self._database_path(name))

    # -- tables --------------------------------------------------------------------------------------------------------

    def list_tables(self, database: str | None = None) -> list[str]:
        """Names of the tables of a database (default: the current one), sorted. Raises DatabaseNotFound."""
        name = database or self.current_database
        check_name(name, "database")
        self._check_database(name)
        path = self._database_path(name)
        return [
            table
            for table in sorted(self._io.list_directories(path))
            if TableStore.open(self._io, f"{path}/{table}").schemas.ids()
        ]

    def create_table(
        self,
        name: str,
        schema: Columns,
        *,
        primary_key: Sequence[str] = (),
        partitioned_by: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        comment: str | None = None,
        ignore_if_exists: bool = False,
    ) -> Table:
        """Create a table and open it.

        ``schema``: a ``pyarrow.Schema``, a ``polars.Schema`` (``frame.schema``), or column name → Polars dtype or SQL type
        such as ``"DECIMAL(20,4)"`` or ``"STRING NOT NULL"``. Raises InvalidSchema, InvalidOption, Unsupported,
        DatabaseNotFound or AlreadyExists; nothing is written then.
        """
        identifier = self.table_identifier(name)
        definition = create_schema(
            _columns(schema),
            primary_keys=list(primary_key),
            partition_keys=list(partitioned_by),
            options=normalized_options(_checked_options(options or {})),
            comment=comment,
            time_millis=time.time_ns() // 1_000_000,
        )
        check_table_definition(definition)
        if identifier.database == DEFAULT_DATABASE:
            self.create_database(DEFAULT_DATABASE, ignore_if_exists=True)
        self._check_database(identifier.database)
        store = self._store(identifier)
        created = store.schemas.latest() is None and store.schemas.try_create(definition)
        if not created and not ignore_if_exists:
            raise AlreadyExists(f"table {identifier.full_name} exists in {self._shown}")
        return self.table(str(identifier))

    def table(self, name: str, branch: str | None = None) -> Table:
        """Open a table, a branch of it (``branch``, or ``db.t$branch_name``) or a system table (``db.t$snapshots``).

        Raises TableNotFound, which names tables of similar names, or BranchNotFound.
        """
        identifier = self._identifier(name)
        if branch is not None and identifier.branch not in (None, branch):
            raise InvalidInput(f"{name!r} and branch={branch!r} name two branches: give one")
        chosen = branch or identifier.branch or MAIN_BRANCH
        store = self._store(identifier, chosen)
        schema = store.schemas.latest()
        if schema is None:
            raise self._missing(identifier, chosen)
        shown = Identifier(
            database=identifier.database,
            table=identifier.table,
            branch=None if chosen == MAIN_BRANCH else chosen,
        )
        opened = Table(name=str(shown), store=store, schema=schema)
        if identifier.system is None:
            return opened
        check_system_table(opened, identifier.system)
        return SystemTable(opened, identifier.system)

    def global_system_table(self, name: str) -> pl.DataFrame:
        """A system table of the whole warehouse, ``all_table_options`` or ``catalog_options``. Raises TableNotFound."""
        match name.lower():
            case "all_table_options":
                return all_table_options(self._all_tables())
            case "catalog_options":
                return catalog_options(self._shown)
        raise TableNotFound(f"there is no table sys.{name}; known: sys.all_table_options, sys.catalog_options")

    def has_table(self, name: str) -> bool:
        """Whether a table exists."""
        return self._exists(self.table_identifier(name))

    def drop_table(self, name: str, *, ignore_if_missing: bool = False) -> None:
        """Drop a table with its data, tags and branches. Raises TableNotFound."""
        identifier = self.table_identifier(name)
        if not self._exists(identifier):
            if ignore_if_missing:
                return
            raise self._missing(identifier)
        paths = self._store(identifier).paths
        # What makes a table visible goes first and its schema next, so that no drop that is cut short leaves a half table.
        for directory in (paths.snapshots, paths.tags, paths.branches, paths.changelogs, paths.consumers):
            self._io.delete_directory(directory)
        self._io.delete_directory(paths.schemas)
        self._io.delete_directory(paths.root)
        self._forget(identifier)

    def rename_table(self, name: str, new_name: str) -> None:
        """Give a table another name, perhaps in another database. Raises TableNotFound, DatabaseNotFound, AlreadyExists.

        Nobody else may use the table meanwhile. Atomic on a local disk; an object store copies its files.
        """
        source, target = self.table_identifier(name), self.table_identifier(new_name)
        if not self._exists(source):
            raise self._missing(source)
        self._check_database(target.database)
        if self._exists(target):
            raise AlreadyExists(f"table {target.full_name} exists in {self._shown}: choose another name")
        self._io.rename_directory(self._table_path(source), self._table_path(target))
        self._forget(source)
        self._forget(target)

    def table_identifier(self, name: str) -> Identifier:
        """A name in full, ``table`` or ``database.table``. Raises InvalidInput for a part of a table."""
        identifier = self._identifier(name)
        if identifier.branch is not None or identifier.system is not None:
            raise InvalidInput(f"{name!r} names a part of a table: expected database.table")
        return identifier

    # -- helpers -------------------------------------------------------------------------------------------------------

    def _all_tables(self) -> Iterator[Table]:
        for database in self.list_databases():
            for table in self.list_tables(database):
                yield self.table(f"{database}.{table}")

    def _identifier(self, name: str) -> Identifier:
        return Identifier.parse(name, database=self.current_database)

    def _store(self, identifier: Identifier, branch: str = MAIN_BRANCH) -> TableStore:
        key = (identifier.full_name, branch)
        with self._lock:
            if key not in self._stores:
                self._stores[key] = TableStore.open(self._io, self._table_path(identifier), branch)
            return self._stores[key]

    def _forget(self, identifier: Identifier) -> None:
        with self._lock:
            for key in [key for key in self._stores if key[0] == identifier.full_name]:
                del self._stores[key]

    def _exists(self, identifier: Identifier) -> bool:
        return bool(self._store(identifier).schemas.ids())

    def _has_database(self, name: str) -> bool:
        return name in self.list_databases()

    def _check_database(self, name: str) -> None:
        known = self.list_databases()
        if name not in known:
            hint = _did_you_mean(name, known) or f"; databases: {', '.join(known) or 'none'}"
            raise DatabaseNotFound(f"there is no database {name!r} in {self._shown}{hint}")

    def _missing(self, identifier: Identifier, branch: str = MAIN_BRANCH) -> TableNotFound | BranchNotFound:
        if branch != MAIN_BRANCH and self._exists(identifier):
            known = self._store(identifier).branch_names()
            hint = _did_you_mean(branch, known) or f"; branches: {', '.join(known) or 'none'}"
            return BranchNotFound(f"table {identifier.full_name} has no branch {branch!r}{hint}")
        known = [f"{database}.{table}" for database in self.list_databases() for table in self.list_tables(database)]
        hint = _did_you_mean(identifier.full_name, known) or _same_table(identifier.table, known)
        return TableNotFound(f"there is no table {identifier.full_name} in {self._shown}{hint}")

    def _database_path(self, name: str) -> str:
        return f"{self._root}/{name}{_DATABASE_SUFFIX}"

    def _table_path(self, identifier: Identifier) -> str:
        return f"{self._database_path(identifier.database)}/{identifier.table}"


def _is_database(name: str) -> bool:
    return name.endswith(_DATABASE_SUFFIX) and name != _DATABASE_SUFFIX


def _columns(schema: Columns) -> tuple[DataField, ...]:
    if isinstance(schema, pa.Schema):
        return fields_from_arrow(schema)
    if isinstance(schema, Mapping):
        return tuple(_column(position, name, text) for position, (name, text) in enumerate(schema.items()))
    return tuple(schema)


def _column(position: int, name: str, given: str | PolarsType) -> DataField:
    return DataField(
        id=position, name=name, type=_of_sql(name, given) if isinstance(given, str) else _of_polars(name, given)
    )


def _of_sql(name: str, given: str) -> DataType:
    try:
        return parse_type(given)
    except InvalidSchema as cause:
        raise InvalidSchema(f"column {name!r}: {cause}") from cause
    except RecursionError as cause:
        raise InvalidSchema(f"column {name!r}: its type is nested too deep") from cause


def _of_polars(name: str, given: PolarsType) -> DataType:
    refused = f"column {name!r}: {given!r} is neither a type of SQL nor a Polars dtype that a file can hold"
    try:
        column = pl.Series(name, [], dtype=given)
    except (TypeError, pl.exceptions.PolarsError) as cause:
        raise InvalidSchema(refused) from cause
    if column.dtype == pl.Object:
        raise InvalidSchema(refused)
    return type_from_arrow(column.to_arrow().type, column=name)


def _checked_options(options: Mapping[str, str]) -> Mapping[str, str]:
    for key, value in options.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidInput(f"option {key!r} is {value!r}: keys and values of options are strings")
    return options


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _same_table(table: str, known: Sequence[str]) -> str:
    near = _near_tables(table, known)
    if near:
        return f"; did you mean {' or '.join(near)}?"
    return f"; tables: {', '.join(known[:20])}" if known else "; the warehouse has no tables"


def _near_tables(table: str, known: Sequence[str]) -> list[str]:
    by_table = {name.partition(".")[2]: name for name in known}
    return [by_table[near] for near in difflib.get_close_matches(table, by_table, n=3)]


def _without_credentials(url: str) -> str:
    if "://" not in url:
        return url
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

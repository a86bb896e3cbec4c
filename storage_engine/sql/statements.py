"""The statements of Flink/Paimon SQL that are understood here: a closed set of frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TypeAlias

from storage_engine.spec.schema_change import SchemaChange
from storage_engine.spec.types import DataField

SYSTEM_DATABASE = "sys"
Literal: TypeAlias = str | int | Decimal | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDatabase:
    """``CREATE DATABASE [IF NOT EXISTS] name``."""

    name: str
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    """``DROP DATABASE [IF EXISTS] name [RESTRICT | CASCADE]``."""

    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UseDatabase:
    """``USE name``: names without a database mean this one from now on."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowDatabases:
    """``SHOW DATABASES``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowTables:
    """``SHOW TABLES [FROM | IN database] [LIKE 'pattern']``; database None is the current one."""

    database: str | None = None
    like: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowCreateTable:
    """``SHOW CREATE TABLE name``."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShowPartitions:
    """``SHOW PARTITIONS name [PARTITION (column = value, …)]``."""

    name: str
    partition: Mapping[str, Literal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeTable:
    """``DESCRIBE name`` or ``DESC name``."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTable:
    """``CREATE TABLE``. The ids of the columns are positions; a schema gives the real ones."""

    name: str
    columns: tuple[DataField, ...]
    primary_keys: tuple[str, ...] = ()
    partition_keys: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    comment: str | None = None
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTable:
    """``DROP TABLE [IF EXISTS] name``."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTable:
    """``ALTER TABLE [IF EXISTS] name`` SET, RESET, ADD, DROP, RENAME or MODIFY of options and columns."""

    name: str
    changes: tuple[SchemaChange, ...]
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameTable:
    """``ALTER TABLE [IF EXISTS] name RENAME TO new_name``."""

    name: str
    new_name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropPartitions:
    """``ALTER TABLE name DROP PARTITION (column = value, …), …``."""

    name: str
    partitions: tuple[Mapping[str, Literal], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a procedure; ``name`` is None if it was given by position."""

    value: Literal
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """``CALL sys.procedure(argument, …)``."""

    procedure: str
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A SELECT (or WITH … SELECT, VALUES) as text; ``line`` and ``column`` are where it begins."""

    text: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """An expression as text; ``line`` and ``column`` are where it begins."""

    text: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateView:
    """``CREATE [TEMPORARY] VIEW [IF NOT EXISTS] name [(column, …)] AS query``."""

    name: str
    query: Query
    columns: tuple[str, ...] = ()
    if_not_exists: bool = False
    comment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DropView:
    """``DROP [TEMPORARY] VIEW [IF EXISTS] name``."""

    name: str
    if_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Insert:
    """``INSERT INTO | OVERWRITE name [/*+ OPTIONS(…) */] [PARTITION (…)] [(column, …)] query``."""

    name: str
    query: Query
    columns: tuple[str, ...] = ()
    partition: Mapping[str, Literal] = field(default_factory=dict)
    overwrite: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """``DELETE FROM name [[AS] alias] WHERE condition``; the text of the condition begins at line and column."""

    name: str
    condition: str
    alias: str | None = None
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """``column = expression``."""

    column: str
    value: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """``UPDATE name [[AS] alias] SET column = expression, … [WHERE condition]``."""

    name: str
    assignments: tuple[Assignment, ...]
    condition: Expression | None = None
    alias: str | None = None


class MatchKind(Enum):
    """Which rows a clause of MERGE is about."""

    MATCHED = "MATCHED"
    NOT_MATCHED = "NOT MATCHED"
    NOT_MATCHED_BY_SOURCE = "NOT MATCHED BY SOURCE"


class MergeAction(Enum):
    """What a clause of MERGE does."""

    UPDATE = "UPDATE"
    DELETE = "DELETE"
    INSERT = "INSERT"


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeClause:
    """``WHEN … [AND condition] THEN …``; no assignments in UPDATE and INSERT mean ``*``, all columns from the source."""

    match: MatchKind
    action: MergeAction
    condition: Expression | None = None
    assignments: tuple[Assignment, ...] = ()
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeInto:
    """``MERGE INTO name [[AS] alias] USING source [[AS] alias] ON condition WHEN …``; ``source`` reads all of it."""

    name: str
    alias: str
    source: Query
    source_alias: str
    condition: Expression
    clauses: tuple[MergeClause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TruncateTable:
    """``TRUNCATE TABLE name``."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalyzeTable:
    """``ANALYZE TABLE name COMPUTE STATISTICS [FOR COLUMNS a, b | FOR ALL COLUMNS]``; ``columns`` None is all."""

    name: str
    columns: tuple[str, ...] | None = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTableLike:
    """``CREATE TABLE [IF NOT EXISTS] name [WITH (…)] LIKE source``: columns, keys and options without rows."""

    name: str
    source: str
    options: Mapping[str, str] = field(default_factory=dict)
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTableAs:
    """``CREATE TABLE … AS query``: keys are given by the options ``primary-key`` and ``partition``, or by clauses."""

    table: CreateTable
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """``EXPLAIN query``: how it would be run."""

    query: Query


Statement: TypeAlias = (
    CreateDatabase
    | DropDatabase
    | UseDatabase
    | ShowDatabases
    | ShowTables
    | ShowCreateTable
    | ShowPartitions
    | DescribeTable
    | CreateTable
    | DropTable
    | AlterTable
    | RenameTable
    | DropPartitions
    | Call
    | CreateView
    | DropView
    | Insert
    | Delete
    | Update
    | MergeInto
    | TruncateTable
    | AnalyzeTable
    | CreateTableLike
    | CreateTableAs
    | Explain
    | Query
)

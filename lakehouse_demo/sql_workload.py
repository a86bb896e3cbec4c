"""A seeded workload of real transactions on the business's tables in MariaDB, MySQL or PostgreSQL, runnable in steps.

The n-th transaction is a function of the seed, of n and of the tables' rows, and notes n in
``workload.progress`` within itself; so a workload that is cut off anywhere goes on with the next
transaction, and the same seed gives the same tables. Transactions insert, update and delete one row or
many, touch the same row several times, are rolled back as a whole or to a savepoint. Every change of a row
sets a greater ``event_time`` than the change before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from random import Random
from typing import Any, Final, TypeAlias

from lakehouse_demo.business_rows import CITIES, FAMILY_NAMES, GIVEN_NAMES, MONEY_SCALE, PRODUCTS
from lakehouse_demo.sql_dialect import MYSQL, SqlDialect

SCHEMA_FILE: Final = "sql_schema.sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadConfig:
    """``members`` and ``agents`` stand there from the start; ``transactions`` come over ``days`` days from
    ``start``.
    """

    seed: int = 7
    members: int = 2_000
    agents: int = 48
    transactions: int = 1_200
    start: date = date(2024, 1, 29)
    days: int = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many transactions were run, and how many members and orders they ever made."""

    transactions: int
    members: int
    orders: int


def prepare(connection: Any, config: WorkloadConfig, dialect: SqlDialect = MYSQL) -> None:
    """Create the tables and their first rows; whatever stands there is left as it is.

    ``connection``: one of PyMySQL, or one of psycopg that commits by itself.
    """
    with connection.cursor() as cursor:
        workload = _Statements(cursor, dialect)
        for statement in files("lakehouse_demo").joinpath(SCHEMA_FILE).read_text("utf-8").split(";\n"):
            if statement.strip():
                workload.sql(statement)
        workload.sql("SELECT COUNT(*) FROM workload.progress")
        if cursor.fetchone() == (0,):
            workload.sql("START TRANSACTION")
            for statement in dialect.publish:
                workload.sql(statement)
            _first_rows(workload, config)
            workload.sql("INSERT INTO workload.progress VALUES (1, 0, %s, 0)", config.members)
            workload.sql("COMMIT")


def run(connection: Any, config: WorkloadConfig, dialect: SqlDialect = MYSQL, *, transactions: int) -> Progress:
    """Run the next ``transactions`` transactions, or those that are left. REQUIRES: ``prepare``; one caller
    at a time.
    """
    progress = progress_of(connection)
    until = min(progress.transactions + transactions, config.transactions)
    with connection.cursor() as cursor:
        for number in range(progress.transactions, until):
            progress = _Transaction(_Statements(cursor, dialect), config, progress, number).run()
    return progress


def progress_of(connection: Any) -> Progress:
    """How far the workload came."""
    with connection.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("SELECT transactions, members, orders FROM workload.progress")
        transactions, members, orders = cursor.fetchone() or (0, 0, 0)
        cursor.execute("COMMIT")
    return Progress(transactions=transactions, members=members, orders=orders)


class _Statements:
    """Statements on a cursor, as its database takes them."""

    def __init__(self, cursor: Any, dialect: SqlDialect) -> None:
        self.dialect = dialect
        self._cursor = cursor

    def sql(self, statement: str, *values: object) -> None:
        self._cursor.execute(self.dialect.told(statement), values or None)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        self.sql(query, *values)
        return list(self._cursor.fetchall())

    def insert(self, table: str, rows: Iterable[tuple[object, ...]]) -> None:
        values = list(rows)
        statement = f"INSERT INTO sales.{table} VALUES ({_places(values[0])})"  # noqa: S608 - own names
        self._cursor.executemany(self.dialect.told(statement), values)


def _first_rows(workload: _Statements, config: WorkloadConfig) -> None:
    choose = Random(f"{config.seed}/rows").choice
    before = datetime.combine(config.start - timedelta(days=1), datetime.min.time())
    teams = max(4, config.agents // 8)
    workload.insert("city", ((f"C{n:02d}", *row) for n, row in enumerate(CITIES, start=1)))
    workload.insert("team", ((f"T{n:03d}", f"Team {n}", _city(choose)) for n in range(1, teams + 1)))
    workload.insert(
        "agent",
        (
            (f"A{n:04d}", _name(choose), f"T{n % teams + 1:03d}", config.start - timedelta(days=100 + 7 * n))
            for n in range(1, config.agents + 1)
        ),
    )
    workload.insert(
        "product",
        ((f"P{n:02d}", *row[:3], Decimal(row[3]) / MONEY_SCALE) for n, row in enumerate(PRODUCTS, start=1)),
    )
    workload.insert(
        "sprint",
        (
            (
                f"S{n}",
                f"Dash {n}",
                config.start + timedelta(days=3 * n - 3),
                config.start + timedelta(days=3 * n),
            )
            for n in range(1, config.days // 3 + 2)
        ),
    )
    workload.insert(
        "member",
        ((f"M{n:08d}", _name(choose), _city(choose), None, before) for n in range(1, config.members + 1)),
    )


def _places(values: Sized) -> str:
    return ", ".join(["%s"] * len(values))


def _city(choose: Callable[[range], int]) -> str:
    return f"C{choose(range(1, len(CITIES) + 1)):02d}"


def _name(choose: Callable[[tuple[str, ...]], str]) -> str:
    return f"{choose(GIVEN_NAMES)} {choose(FAMILY_NAMES)}"


class _Transaction:
    """The n-th transaction of the workload: a kind chosen by the seed, on rows chosen by it."""

    def __init__(self, workload: _Statements, config: WorkloadConfig, progress: Progress, number: int) -> None:
        self._workload = workload
        self._config = config
        self._random = Random(f"{config.seed}/{number}")
        self._members, self._orders = progress.members, progress.orders
        self._number = number
        span = timedelta(days=config.days)
        self._now = datetime.combine(config.start, datetime.min.time()) + span * number / config.transactions
        self._now = self._now.replace(microsecond=self._now.microsecond // 1000 * 1000)

    def run(self) -> Progress:
        kind = self._random.choices(_KINDS, _WEIGHTS)[0]
        self._sql("START TRANSACTION")
        kind(self)
        done = (self._number + 1, self._members, self._orders)
        self._sql("UPDATE workload.progress SET transactions = %s, members = %s, orders = %s", *done)
        self._sql("COMMIT")
        return Progress(transactions=done[0], members=done[1], orders=done[2])

    # orders

    def place_orders(self) -> None:
        members = self._some("SELECT id FROM sales.member WHERE id >= %s ORDER BY id LIMIT %s", "M", self._members)
        rows = [self._order(member_id) for (member_id,) in members]
        if rows:
            self._workload.insert("member_order", rows)

    def correct_amounts(self) -> None:
        self._update_some_orders("amount = ROUND(amount * 0.93 + 0.0001, 4)")

    def correct_quantities(self) -> None:
        self._update_some_orders("amount = amount * 2, quantity = quantity * 2")

    def refund(self) -> None:
        self._update_some_orders("status = 'refunded'")

    def pay_again(self) -> None:
        self._update_some_orders("status = 'paid'")

    def reassign(self) -> None:
        self._update_some_orders(f"agent_id = '{self._agent()}'")

    def delete_orders(self) -> None:
        for v_date, order_id in self._some_orders()[:4]:
            self._sql("DELETE FROM sales.member_order WHERE v_date = %s AND id = %s", v_date, order_id)

    def replace_order(self) -> None:
        for v_date, order_id in self._some_orders()[:1]:
            query = "SELECT member_id FROM sales.member_order WHERE v_date = %s AND id = %s"
            ((member_id,),) = self._workload.rows(query, v_date, order_id)
            row = (v_date, order_id, *self._order(member_id)[2:])
            self._orders -= 1
            if self._workload.dialect.replaces:
                self._sql(f"REPLACE INTO sales.member_order VALUES ({_places(row)})", *row)  # noqa: S608
            else:
                self._sql("DELETE FROM sales.member_order WHERE id = %s", order_id)
                self._workload.insert("member_order", [row])

    def work_on_new_orders(self) -> None:
        """Insert orders, and change, refund and delete some of them before anybody else sees them."""
        first = self._orders + 1
        self.place_orders()
        new = [f"O{number:09d}" for number in range(first, self._orders + 1)]
        for change, ids in (("amount = 0.0001", new[:3]), ("status = 'refunded'", new[2:5])):
            for order_id in ids:
                self._update_orders(change, [order_id])
        for order_id in new[4:6]:
            self._sql("DELETE FROM sales.member_order WHERE id = %s", order_id)

    # members

    def join(self) -> None:
        count = self._random.randrange(1, 20)
        choose, now = self._random.choice, self._tick()
        numbers = range(self._members + 1, self._members + count + 1)
        self._workload.insert("member", ((f"M{n:08d}", _name(choose), _city(choose), None, now) for n in numbers))
        self._members += count

    def move(self) -> None:
        self._update_members("city_id", _city(self._random.choice))

    def change_phones(self) -> None:
        self._update_members("phone", self._random.choice([None, f"1{self._random.randrange(10**10):010d}"]))

    def delete_idle_members(self) -> None:
        idle = self._workload.rows(
            "SELECT id FROM sales.member m WHERE id >= %s AND NOT EXISTS (SELECT 1 FROM sales.member_order "
            "WHERE member_id = m.id) ORDER BY id LIMIT 3",
            f"M{self._random.randrange(1, self._members + 1):08d}",
        )
        self._change("DELETE FROM sales.member", [member_id for (member_id,) in idle])

    def upsert_member(self) -> None:
        insert = "INSERT INTO sales.member VALUES (%s, %s, %s, NULL, %s)"
        self._sql(
            f"{insert} {self._workload.dialect.upsert}",
            f"M{self._random.randrange(1, self._members + 1):08d}",
            _name(self._random.choice),
            _city(self._random.choice),
            self._tick(),
        )

    # dimensions

    def move_agent(self) -> None:
        teams = max(4, self._config.agents // 8)
        team = f"T{self._random.randrange(1, teams + 1):03d}"
        self._sql("UPDATE sales.agent SET team_id = %s WHERE id = %s", team, self._agent())

    def reweigh_product(self) -> None:
        statement = "UPDATE sales.product SET score_weight = score_weight + 0.1234 WHERE id = %s"
        self._sql(statement, self._product())

    # transactions that leave nothing, or not all

    def roll_back(self) -> None:
        orders = self._orders
        self.place_orders()
        self.refund()
        self.move()
        self._orders = orders
        self._sql("ROLLBACK")
        self._sql("START TRANSACTION")

    def roll_back_to_savepoint(self) -> None:
        self.place_orders()
        self._sql("SAVEPOINT placed")
        first = self._workload.rows("SELECT id FROM sales.member_order ORDER BY v_date, id LIMIT 50")
        self._change("DELETE FROM sales.member_order", [order_id for (order_id,) in first])
        self.refund()
        self._sql("ROLLBACK TO SAVEPOINT placed")
        self.correct_amounts()

    # choices

    def _sql(self, statement: str, *values: object) -> None:
        self._workload.sql(statement, *values)

    def _change(self, statement: str, ids: list[str], *values: object) -> None:
        """An UPDATE or DELETE of the rows with these ids, in one statement."""
        if ids:
            self._sql(f"{statement} WHERE id IN ({_places(ids)})", *values, *ids)

    def _tick(self) -> datetime:
        """A time after all earlier ones."""
        self._now += timedelta(milliseconds=1)
        return self._now

    def _some(self, query: str, prefix: str, made: int) -> list[tuple[Any, ...]]:
        """Up to 25 rows that follow an id chosen among those ever made."""
        width = 8 if prefix == "M" else 9
        first = f"{prefix}{self._random.randrange(1, max(made, 1) + 1):0{width}d}"
        return self._workload.rows(query, first, self._random.randrange(1, 26))

    def _some_orders(self) -> list[tuple[Any, ...]]:
        query = "SELECT v_date, id FROM sales.member_order WHERE id >= %s ORDER BY id LIMIT %s"
        return self._some(query, "O", self._orders)

    def _update_some_orders(self, change: str) -> None:
        self._update_orders(change, [order_id for _, order_id in self._some_orders()])

    def _update_orders(self, change: str, ids: list[str]) -> None:
        if ids:
            self._change(f"UPDATE sales.member_order SET {change}, event_time = %s", ids, self._tick())  # noqa: S608

    def _update_members(self, column: str, value: str | None) -> None:
        first = f"M{self._random.randrange(1, self._members + 1):08d}"
        members = self._workload.rows("SELECT id FROM sales.member WHERE id >= %s ORDER BY id LIMIT 10", first)
        change = f"UPDATE sales.member SET {column} = %s, event_time = %s"  # noqa: S608 - own names
        self._change(change, [member_id for (member_id,) in members], value, self._tick())

    def _agent(self) -> str:
        return f"A{self._random.randrange(1, self._config.agents + 1):04d}"

    def _product(self) -> str:
        return f"P{self._random.randrange(1, len(PRODUCTS) + 1):02d}"

    def _order(self, member_id: str) -> tuple[object, ...]:
        """A new order of a member, today."""
        self._orders += 1
        day = self._now.date()
        quantity = self._random.randrange(1, 9)
        return (
            day.isoformat(),
            f"O{self._orders:09d}",
            member_id,
            self._agent(),
            self._product(),
            f"S{(day - self._config.start).days // 3 + 1}",
            self._random.choice(("new", "renew", "renew")),
            quantity,
            Decimal(self._random.randrange(1, 10_000_000) * quantity) / MONEY_SCALE,
            "paid",
            self._tick(),
        )


_TransactionKind: TypeAlias = Callable[[_Transaction], None]

_SHARES: Final[tuple[tuple[_TransactionKind, int], ...]] = (
    (_Transaction.place_orders, 38),
    (_Transaction.correct_amounts, 12),
    (_Transaction.correct_quantities, 4),
    (_Transaction.refund, 8),
    (_Transaction.pay_again, 2),
    (_Transaction.reassign, 3),
    (_Transaction.delete_orders, 4),
    (_Transaction.replace_order, 2),
    (_Transaction.work_on_new_orders, 4),
    (_Transaction.join, 6),
    (_Transaction.move, 4),
    (_Transaction.change_phones, 3),
    (_Transaction.delete_idle_members, 2),
    (_Transaction.upsert_member, 2),
    (_Transaction.move_agent, 2),
    (_Transaction.reweigh_product, 1),
    (_Transaction.roll_back, 3),
    (_Transaction.roll_back_to_savepoint, 2),
)
"""Relative share of each kind of transaction."""

_KINDS: Final = [kind for kind, _ in _SHARES]
_WEIGHTS: Final = [share for _, share in _SHARES]

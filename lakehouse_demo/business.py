"""The business in memory: sales agents in sprints, and members who order, renew, are refunded and move.

It plays the source database. Each change keeps the referential integrity that a database would enforce (a
member who has orders is not deleted, dimension rows never are) and is returned as JSON texts.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from itertools import accumulate
from random import Random
from typing import Final, TypeAlias, TypeVar

from lakehouse_demo.business_rows import (
    CITIES,
    FAMILY_NAMES,
    GIVEN_NAMES,
    PRODUCTS,
    Agent,
    City,
    Member,
    Order,
    Product,
    Sprint,
    Team,
)

Change: TypeAlias = tuple[str, str, str, str]
"""(table, op, before, after): the images as JSON texts, ``null`` where there is none."""

Choice = TypeVar("Choice")

DAY_MS: Final = 86_400_000
OPEN_ORDERS_MAX: Final = 200_000
"""Orders that may still change; beyond it the older half is closed, which bounds the memory of long
streams."""

QUANTITY_MAX: Final = 9
RENEWAL_SHARE: Final = 0.85
PHONE_SHARE: Final = 0.95


class Business:
    """The source database of one seeded stream, with ``events`` events over ``days`` days, the snapshot
    included.

    ``snapshot()`` gives the rows that exist before the first day, ``change(v_date, now_ms)`` makes one
    change and returns it. REQUIRES: ``now_ms`` grows with each call. Of the generator only ``random()`` is
    used, which is the same on all Pythons.
    """

    def __init__(self, rng: Random, *, start: date, days: int, members: int, agents: int, events: int) -> None:
        self._random = rng.random
        self._v_date = start.isoformat()
        self._now_ms = epoch_ms(start) - DAY_MS
        self._cities = [City(f"C{number:02d}", *row) for number, row in enumerate(CITIES, start=1)]
        self._teams = [
            Team(f"T{number:03d}", f"Team {number}", self._pick(self._cities).id)
            for number in range(1, max(4, agents // 8) + 1)
        ]
        self._agents = [self._new_agent(number, start) for number in range(1, agents + 1)]
        self._products = [Product(f"P{number:02d}", *row) for number, row in enumerate(PRODUCTS, start=1)]
        self._sprints = _sprints(start, days)
        self._members_made = self._orders_made = self._changes_made = 0
        self._members = [self._new_member() for _ in range(members)]
        self._orders: list[Order] = []
        self.changes = events - sum(1 for _ in self.snapshot())
        self._rare = _rare_changes(self.changes)

    def snapshot(self) -> Iterator[Change]:
        """Every row that stands in the source before the first change, as op ``r``."""
        for table, rows in (
            ("city", self._cities),
            ("team", self._teams),
            ("agent", self._agents),
            ("product", self._products),
            ("sprint", self._sprints),
            ("member", self._members),
        ):
            for row in rows:
                yield table, "r", "null", row.image()

    def change(self, v_date: str, now_ms: int) -> Change:
        """Make the next change at ``now_ms`` (epoch milliseconds, on the day ``v_date``)."""
        self._v_date, self._now_ms = v_date, now_ms
        kind = self._rare.get(self._changes_made) or _KINDS[bisect(_THRESHOLDS, self._random())]
        self._changes_made += 1
        return kind(self)

    # orders

    def place_order(self) -> Change:
        """A member orders from an agent."""
        member, product = self._pick(self._members), self._pick(self._products)
        self._orders_made += 1
        quantity = 1 + int(self._random() ** 3 * QUANTITY_MAX)
        order = Order(
            v_date=self._v_date,
            id=f"O{self._orders_made:09d}",
            member=member,
            agent_id=self._pick(self._agents).id,
            product=product,
            sprint_id=self._running_sprint().id,
            order_type="renew" if member.orders and self._random() < RENEWAL_SHARE else "new",
            quantity=quantity,
            amount=self._price(product, quantity),
            status="paid",
            event_time=self._now_ms,
        )
        member.orders += 1
        if len(self._orders) >= OPEN_ORDERS_MAX:
            del self._orders[: OPEN_ORDERS_MAX // 2]
        self._orders.append(order)
        return "member_order", "c", "null", order.image()

    def _update_order(self, edit: Callable[[Order], None]) -> Change:
        if not self._orders:
            return self.place_order()
        order = self._orders[self._open_order()]
        before = order.image()
        edit(order)
        order.event_time = self._now_ms
        return "member_order", "u", before, order.image()

    def correct_amount(self) -> Change:
        """The amount of an order was wrong."""

        def edit(order: Order) -> None:
            order.amount = max(1, order.amount + int((self._random() - 0.6) * 0.3 * order.amount))

        return self._update_order(edit)

    def correct_quantity(self) -> Change:
        """The quantity of an order was wrong."""

        def edit(order: Order) -> None:
            order.quantity = order.quantity % QUANTITY_MAX + 1
            order.amount = self._price(order.product, order.quantity)

        return self._update_order(edit)

    def refund(self) -> Change:
        """An order is refunded."""

        def edit(order: Order) -> None:
            order.status = "refunded"

        return self._update_order(edit)

    def revert_refund(self) -> Change:
        """A refund is taken back."""

        def edit(order: Order) -> None:
            order.status = "paid"

        return self._update_order(edit)

    def reassign(self) -> Change:
        """An order goes to another agent."""

        def edit(order: Order) -> None:
            order.agent_id = self._pick(self._agents).id

        return self._update_order(edit)

    def delete_order(self) -> Change:
        """An order is deleted."""
        if not self._orders:
            return self.place_order()
        place = self._open_order()
        order = self._orders[place]
        self._orders[place] = self._orders[-1]
        self._orders.pop()
        order.member.orders -= 1
        return "member_order", "d", order.image(), "null"

    # members

    def join(self) -> Change:
        """A new member joins."""
        member = self._new_member()
        self._members.append(member)
        return "member", "c", "null", member.image()

    def move(self) -> Change:
        """A member moves to a city."""
        member = self._pick(self._members)
        before = member.image()
        member.city_id, member.event_time = self._pick(self._cities).id, self._now_ms
        return "member", "u", before, member.image()

    def change_phone(self) -> Change:
        """A member has another phone number, or none."""
        member = self._pick(self._members)
        before = member.image()
        member.phone, member.event_time = self._new_phone(), self._now_ms
        return "member", "u", before, member.image()

    def delete_member(self) -> Change:
        """A member without orders is deleted."""
        place = int(self._random() * len(self._members))
        member = self._members[place]
        if member.orders or len(self._members) == 1:
            return self.change_phone()
        self._members[place] = self._members[-1]
        self._members.pop()
        return "member", "d", member.image(), "null"

    # dimensions

    def move_agent(self) -> Change:
        """An agent changes team."""
        agent = self._pick(self._agents)
        before = agent.image()
        agent.team_id = self._pick([team for team in self._teams if team.id != agent.team_id]).id
        return "agent", "u", before, agent.image()

    def reweight_product(self) -> Change:
        """A product counts more."""
        product = self._pick(self._products)
        before = product.image()
        product.score_weight = product.score_weight + 1 + int(product.score_weight * 0.3 * self._random())
        return "product", "u", before, product.image()

    def rename_product(self) -> Change:
        """A product is renamed."""
        product = self._pick(self._products)
        before = product.image()
        product.name = f"{product.name.split(' (')[0]} ({self._v_date})"
        return "product", "u", before, product.image()

    def rename_team(self) -> Change:
        """A team is renamed."""
        team = self._pick(self._teams)
        before = team.image()
        team.name = f"{team.name.split(' of ')[0]} of {self._v_date}"
        return "team", "u", before, team.image()

    def extend_sprint(self) -> Change:
        """A sprint lasts a day longer."""
        sprint = self._pick(self._sprints)
        before = sprint.image()
        sprint.end_date += timedelta(days=1)
        return "sprint", "u", before, sprint.image()

    # choices

    def _pick(self, rows: Sequence[Choice]) -> Choice:
        return rows[int(self._random() * len(rows))]

    def _open_order(self) -> int:
        """Place of an order that may change: newer ones are likelier."""
        count = len(self._orders)
        return min(count - 1, int(count * (1 - self._random() ** 2)))

    def _running_sprint(self) -> Sprint:
        day = date.fromisoformat(self._v_date)
        return self._pick([sprint for sprint in self._sprints if sprint.start_date <= day <= sprint.end_date])

    def _price(self, product: Product, quantity: int) -> int:
        return int(product.price * quantity * (0.7 + 0.3 * self._random()))

    def _new_name(self) -> str:
        return f"{self._pick(GIVEN_NAMES)} {self._pick(FAMILY_NAMES)}"

    def _new_phone(self) -> str:
        return f"1{int(self._random() * 10**10):010d}" if self._random() < PHONE_SHARE else ""

    def _new_agent(self, number: int, start: date) -> Agent:
        hired_on = start - timedelta(days=30 + int(self._random() * 2_000))
        return Agent(f"A{number:04d}", self._new_name(), self._pick(self._teams).id, hired_on)

    def _new_member(self) -> Member:
        self._members_made += 1
        city_id = self._pick(self._cities).id
        return Member(f"M{self._members_made:08d}", self._new_name(), city_id, self._new_phone(), self._now_ms)


_ChangeKind: TypeAlias = Callable[[Business], Change]

_FREQUENT: Final[tuple[tuple[_ChangeKind, float], ...]] = (
    (Business.place_order, 0.44),
    (Business.correct_amount, 0.15),
    (Business.correct_quantity, 0.05),
    (Business.refund, 0.08),
    (Business.revert_refund, 0.01),
    (Business.reassign, 0.02),
    (Business.delete_order, 0.03),
    (Business.join, 0.12),
    (Business.move, 0.03),
    (Business.change_phone, 0.06),
    (Business.delete_member, 0.01),
)
"""The share of each kind of change in the trade of every day."""

_KINDS: Final = [kind for kind, _ in _FREQUENT]
_THRESHOLDS: Final = list(accumulate(share for _, share in _FREQUENT))[:-1]

_RARE: Final[tuple[tuple[_ChangeKind, int], ...]] = (
    (Business.move_agent, 60),
    (Business.reweight_product, 9),
    (Business.rename_product, 4),
    (Business.rename_team, 6),
    (Business.extend_sprint, 3),
)
"""Changes of dimensions in a whole stream, however long, since each concerns all orders of its row."""

RARE_CHANGES_MAX: Final = sum(count for _, count in _RARE)
_RARE_SHARE_MAX: Final = 0.02


def _rare_changes(changes: int) -> dict[int, _ChangeKind]:
    """Number of the change → its kind, for the rare ones: fewer in short streams, at least one of each
    kind.
    """
    scale = min(1.0, changes * _RARE_SHARE_MAX / RARE_CHANGES_MAX)
    counts = [max(1, int(count * scale)) for _, count in _RARE]
    spread = sorted(((place + 0.5) / count, kind) for kind, count in enumerate(counts) for place in range(count))
    return {changes * (2 * turn + 1) // (2 * len(spread)): _RARE[kind][0] for turn, (_, kind) in enumerate(spread)}


def _sprints(start: date, days: int) -> list[Sprint]:
    """One sprint over all days, and shorter ones that overlap each other by a day."""
    sprints = [Sprint("S1", "Spring campaign", start - timedelta(days=7), start + timedelta(days=days + 7))]
    for number, offset in enumerate(range(0, days, 3), start=1):
        first = start + timedelta(days=offset)
        sprints.append(Sprint(f"S{number + 1}", f"Dash {number}", first, first + timedelta(days=3)))
    return sprints


def epoch_ms(day: date) -> int:
    """Midnight UTC of a day, in epoch milliseconds."""
    return (day - date(1970, 1, 1)).days * DAY_MS

"""The APP tables by plain SQL on the source database: what the lakehouse must hold, without the lakehouse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from lakehouse_demo.sql_dialect import MYSQL, SqlDialect

SPRINT_PERFORMANCE_SQL: Final = """
SELECT o.v_date, o.sprint_id, a.team_id, o.agent_id,
       COUNT(*) AS orders,
       SUM(o.amount) AS amount,
       SUM(p.score_weight * o.quantity) AS score
FROM sales.member_order o
JOIN sales.agent a ON a.id = o.agent_id
JOIN sales.product p ON p.id = o.product_id
WHERE o.status = 'paid'
GROUP BY o.v_date, o.sprint_id, a.team_id, o.agent_id
ORDER BY o.v_date, o.sprint_id, a.team_id, o.agent_id
"""

MEMBER_GROWTH_SQL: Final = """
SELECT LEFT(o.v_date, 7) AS v_month, m.city_id, o.product_id,
       COUNT(DISTINCT CASE WHEN o.order_type = 'new' THEN o.member_id END) AS new_members,
       COUNT(DISTINCT CASE WHEN o.order_type = 'renew' THEN o.member_id END) AS renewed_members
FROM sales.member_order o
JOIN sales.member m ON m.id = o.member_id
WHERE o.status = 'paid'
GROUP BY LEFT(o.v_date, 7), m.city_id, o.product_id
ORDER BY LEFT(o.v_date, 7), m.city_id, o.product_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedApp:
    """The rows of both APP tables as mappings column → value, as ``app_tables.compare`` takes them."""

    sprint_performance: list[dict[str, Any]]
    member_growth: list[dict[str, Any]]


def expected_app(connection: Any, dialect: SqlDialect = MYSQL) -> ExpectedApp:
    """The APP tables of the database as it stands now, both of the same moment."""
    with connection.cursor() as cursor:
        cursor.execute(dialect.begin)
        sprint_performance = _rows(cursor, dialect.told(SPRINT_PERFORMANCE_SQL))
        member_growth = _rows(cursor, dialect.told(MEMBER_GROWTH_SQL))
        cursor.execute("COMMIT")
    return ExpectedApp(sprint_performance=sprint_performance, member_growth=member_growth)


def _rows(cursor: Any, query: str) -> list[dict[str, Any]]:
    cursor.execute(query)
    columns = [column[0] for column in cursor.description]
    return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

"""The APP tables by plain SQL on the source database: what the lakehouse must hold, without the lakehouse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pymysql
from pymysql.cursors import DictCursor

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


def expected_app(connection: pymysql.Connection[Any]) -> ExpectedApp:
    """The APP tables of the database as it stands now, both of the same moment."""
    with connection.cursor(DictCursor) as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute(SPRINT_PERFORMANCE_SQL)
        sprint_performance = list(cursor.fetchall())
        cursor.execute(MEMBER_GROWTH_SQL)
        member_growth = list(cursor.fetchall())
        cursor.execute("COMMIT")
    return ExpectedApp(sprint_performance=sprint_performance, member_growth=member_growth)

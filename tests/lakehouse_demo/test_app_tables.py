"""The comparison of an APP table with what it should hold finds every difference, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from lakehouse_demo.app_tables import MEMBER_GROWTH, REPORTED_MAX, SPRINT_PERFORMANCE, compare

GROUP = {
    "v_date": "2024-01-31",
    "sprint_id": "S1",
    "team_id": "T1",
    "agent_id": "A1",
    "orders": 2,
    "amount": Decimal("10.5000"),
    "score": Decimal("3.0000"),
}
ZERO = GROUP | {"agent_id": "A2", "orders": 0, "amount": Decimal("0.0000"), "score": Decimal("0.0000")}


@pytest.mark.parametrize(
    "actual",
    [
        [GROUP],
        [GROUP, ZERO],
        [GROUP | {"update_time": 5}],
        [GROUP | {"amount": Decimal("10.5"), "score": 3}],
        pl.DataFrame([GROUP, ZERO]),
    ],
    ids=["same", "an all-zero group", "another column", "another scale", "a frame"],
)
def test_equal_tables_have_no_difference(actual: Any) -> None:
    assert compare(SPRINT_PERFORMANCE, [GROUP], actual) == []
    assert compare(SPRINT_PERFORMANCE, actual, [GROUP]) == []


@pytest.mark.parametrize(
    ("actual", "told"),
    [
        (
            [],
            "no row for v_date=2024-01-31, sprint_id=S1, team_id=T1, agent_id=A1; expected orders=2",
        ),
        (
            [GROUP, GROUP | {"agent_id": "A3"}],
            "unexpected row for v_date=2024-01-31, sprint_id=S1, team_id=T1, agent_id=A3",
        ),
        ([GROUP | {"amount": Decimal("10.5001")}], "agent_id=A1: amount is 10.5001, expected 10.5000"),
        ([GROUP | {"orders": None}], "orders is None, expected 2"),
        ([GROUP, GROUP], "2 rows for v_date=2024-01-31, sprint_id=S1, team_id=T1, agent_id=A1"),
    ],
)
def test_a_difference_is_told(actual: list[dict[str, Any]], told: str) -> None:
    differences = compare(SPRINT_PERFORMANCE, [GROUP], actual)
    assert len(differences) == 1
    assert told in differences[0]
    assert differences[0].startswith("app.sprint_performance: ")


def test_a_long_report_is_cut() -> None:
    expected = [
        {
            "v_month": "2024-01",
            "city_id": f"C{number}",
            "product_id": "P1",
            "new_members": 1,
            "renewed_members": 0,
        }
        for number in range(100)
    ]
    differences = compare(MEMBER_GROWTH, expected, [])
    assert len(differences) == REPORTED_MAX + 1
    assert differences[-1] == f"app.member_growth: and {100 - REPORTED_MAX} more differences"

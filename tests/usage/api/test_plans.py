"""How the database answers: from the index of the key, from one partition."""

from datetime import date
from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict

from usage import selectors
from usage.api import endpoints
from usage.api.pagination import rows_after
from usage.models import UsageType


def plan(rows: Any) -> str:
    return rows.explain()


@pytest.fixture
def many(db: None) -> None:
    """Sixty thousand daily totals, enough for the planner to prefer an index where one serves."""
    with connection.cursor() as cursor:
        for day in (1, 2, 3):
            cursor.execute(
                f"CREATE TABLE a_{day} PARTITION OF usage_datausagerecord"
                f" FOR VALUES FROM ('2026-11-0{day} 00:00Z') TO ('2026-11-0{day + 1} 00:00Z')"
            )
        cursor.execute(
            "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
            " SELECT number, moment, 1 FROM generate_series(1, 20000) AS numbers (number),"
            " generate_series('2026-11-01 10:00Z', '2026-11-03 10:00Z', interval '1 day')"
            " AS moments (moment)"
        )
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open")
        cursor.execute("ANALYZE usage_daily_open, usage_datausagerecord")


def test_records_of_a_day_scan_its_partition_and_the_default(many: None) -> None:
    rows = selectors.day_records(
        subscription_id=7, usage_type=UsageType.DATA, day=date(2026, 11, 2), kept_from=None
    )
    found = plan(rows.order_by("usage_date", "id")[:101])
    assert "a_2" in found
    assert "a_1" not in found
    assert "a_3" not in found
    assert "Index Cond: ((subscription_id = 7) AND (usage_date >= " in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize(
    ("endpoint", "position"),
    [
        (endpoints.Daily(), [10_000, date(2026, 11, 2), "data"]),
        (endpoints.Totals(), [10_000, "data"]),
    ],
)
def test_a_page_by_subscription_is_a_range_of_the_index(
    many: None, endpoint: endpoints.ListEndpoint, position: list[Any]
) -> None:
    query = endpoint.filterset_class(QueryDict())
    keys = endpoint.keys(query.asked)
    rows = endpoint.rows(query, selectors.totals_state(), live=False).filter(
        rows_after(list(zip(keys, position, strict=True)))
    )
    found = plan(rows.order_by(*[key.column for key in keys])[:101])
    assert "Index Cond: (subscription_id >= 10000)" in found
    assert "Seq Scan" not in found

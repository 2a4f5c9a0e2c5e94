"""How the database answers: from the index of the key, from one partition."""

from typing import Any

import pytest
from django.db import connection
from django.http import QueryDict

from usage.api import endpoints
from usage.api.lists import ListEndpoint
from usage.api.pagination import Cursor, Pager


def plan(
    endpoint: ListEndpoint, query: str, position: list[Any] | None = None, *, live: bool = False
) -> str:
    """How the database runs the very statement that answers a query."""
    asked = endpoint.filterset_class(QueryDict(query)).asked
    cursor = Cursor("", position) if position else None
    pager = Pager(keys=endpoint.keys(asked), query="", cursor=cursor, size=100)
    statement = endpoint.statement(asked, live=live, after=cursor is not None)
    with connection.cursor() as database:
        # A prepared statement gets a plan that must be good for any values.
        database.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        values = statement.filled({**asked, **pager.values})
        database.execute(f"EXPLAIN {statement.sent(database)}", values)
        return "\n".join(line for (line,) in database)


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
    found = plan(endpoints.Records(), "subscription_id=7&usage_type=data&day=2026-11-02", live=True)
    assert "a_2" in found
    assert "a_1" not in found
    assert "a_3" not in found
    assert "Index Cond: ((subscription_id = 7) AND (usage_date >= " in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize(
    ("endpoint", "position"),
    [
        (endpoints.Daily(), [10_000, "2026-11-02", "data"]),
        (endpoints.Totals(), [10_000, "data"]),
    ],
)
def test_a_page_by_subscription_is_a_range_of_the_index(
    many: None, endpoint: ListEndpoint, position: list[Any]
) -> None:
    found = plan(endpoint, "", position)
    assert "Index Cond: (subscription_id >= 10000)" in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize("endpoint", [endpoints.Daily(), endpoints.Totals()])
@pytest.mark.parametrize("named", [1, 200])
def test_named_subscriptions_are_looked_up_in_the_index(
    many: None, endpoint: ListEndpoint, named: int
) -> None:
    ids = ",".join(str(number) for number in range(1, named + 1))
    found = plan(endpoint, f"subscription_id={ids}&month=2026-11")
    assert "Index Cond: ((subscription_id = ANY ($1)) AND (day >= $2) AND (day <= $3))" in found
    assert "Seq Scan" not in found

"""Plans of the statements: they use the index of the key, and one partition."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import QueryDict

from tests.connections import run_sql
from usage.lists import all_lists
from usage.lists.pagination import Cursor, Pager
from usage.lists.usage_list import UsageList
from usage.selectors import Source


def plan(
    usage_list: UsageList,
    query: str,
    position: list[Any] | None = None,
    source: Source = Source.DAILY,
    owner: int | None = None,
) -> str:
    """Return the plan of the statement of a query."""
    parameters = usage_list.filter_class(QueryDict(query), owner=owner).parameters
    cursor = Cursor("", position) if position else None
    pager = Pager(keys=usage_list.keys(parameters), query="", cursor=cursor, size=100)
    statement = usage_list.statement(parameters, source, after=cursor is not None)
    with connection.cursor() as database:
        # A prepared statement soon gets a generic plan, which must be good for any values.
        database.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        values = statement.filled({**parameters, **pager.values})
        database.execute(f"EXPLAIN {statement.sent(database)}", values)
        return "\n".join(line for (line,) in database)


@pytest.fixture
def many(db: None) -> None:
    """Make 60,000 open and 20,000 sealed daily totals: enough to make an index the better plan."""
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
        cursor.execute(
            "INSERT INTO usage_daily_sealed SELECT number, '2026-10-31', 'data', 1, 1, 1,"
            " '2026-10-31 10:00Z' FROM generate_series(1, 20000) AS numbers (number)"
        )
        cursor.execute("ANALYZE usage_daily_open, usage_daily_sealed, usage_datausagerecord")


def test_records_of_a_day_scan_its_partition_and_the_default(many: None) -> None:
    found = plan(
        all_lists.Records(), "subscription_id=7&usage_type=data&day=2026-11-02", source=Source.LIVE
    )
    assert "a_2" in found
    assert "a_1" not in found
    assert "a_3" not in found
    assert "Index Cond: ((subscription_id = 7) AND (usage_date >= " in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize(
    ("usage_list", "position"),
    [
        (all_lists.Daily(), [10_000, "2026-11-02", "data"]),
        (all_lists.Totals(), [10_000, "data"]),
    ],
)
def test_a_page_by_subscription_is_a_range_of_the_index(
    many: None, usage_list: UsageList, position: list[Any]
) -> None:
    found = plan(usage_list, "", position)
    assert "Index Cond: (ROW(subscription_id, " in found
    assert "Seq Scan" not in found


@pytest.mark.parametrize("usage_list", [all_lists.Daily(), all_lists.Totals()])
@pytest.mark.parametrize("named", [1, 200])
def test_named_subscriptions_are_looked_up_in_the_index(
    many: None, usage_list: UsageList, named: int
) -> None:
    ids = ",".join(str(number) for number in range(1, named + 1))
    found = plan(usage_list, f"subscription_id={ids}&month=2026-11")
    assert "Index Cond: ((subscription_id = ANY ($1)) AND (day >= $2) AND (day <= $3))" in found
    assert "Seq Scan" not in found


@pytest.fixture
def many_periods(db: None) -> None:
    """Make 40,000 subscriptions, half of them with the same price: a page must not read all equal
    ones before its position again."""
    run_sql(
        "INSERT INTO usage_period_total SELECT number, period, usage_type,"
        " CASE WHEN number % 2 = 0 THEN 5 ELSE number END, 1, 1, usage_type = 'data'"
        " FROM generate_series(1, 40000) AS numbers (number),"
        " unnest(ARRAY['0001-01-01', '2026-10-01', '2026-11-01']::date[]) AS periods (period),"
        " unnest(ARRAY['data', 'voice']) AS types (usage_type)"
    )
    run_sql("ANALYZE usage_period_total")


@pytest.mark.parametrize("days", ["", "&month=2026-11", "&from_date=2026-10-01&to_date=2026-10-31"])
@pytest.mark.parametrize("position", [None, ["-5", 20_000]])
def test_over_the_limit_in_a_period_is_a_range_of_an_index(
    many_periods: None, days: str, position: list[Any] | None
) -> None:
    begins = "ROW((- total_price), subscription_id) >" if position else "(- total_price) <="
    for query, index in [
        ("price_limit=1", "usage_period_total_largest"),
        ("price_limit=1&usage_type=voice", "usage_period_total_price"),
    ]:
        found = plan(all_lists.OverLimit(), query + days, position, Source.PERIODS)
        assert f"Index Scan using {index} on usage_period_total" in found
        assert begins in found.partition("Index Cond: ")[2].partition("\n")[0]
        assert "Seq Scan" not in found
        assert "Sort" not in found
        assert "Filter" not in found


@pytest.fixture
def many_sealed(db: None) -> None:
    """Make half a million totals of a month, in the order of days, as sealing writes them."""
    run_sql(
        "INSERT INTO usage_daily_sealed"
        " SELECT number, day, usage_type, 1, 1, 1, day"
        " FROM generate_series('2026-10-01'::timestamptz, '2026-10-31', '1 day') AS days (day),"
        " generate_series(1, 8000) AS numbers (number),"
        " unnest(ARRAY['data', 'voice']) AS types (usage_type)"
    )
    run_sql("ANALYZE usage_daily_sealed")


@pytest.mark.parametrize("named", [1, 200])
def test_the_month_of_named_subscriptions_is_read_from_the_index_alone(
    many_sealed: None, named: int
) -> None:
    ids = ",".join(str(number) for number in range(7, 8000, 8000 // named)[:named])
    found = plan(all_lists.Totals(), f"subscription_id={ids}&month=2026-10")
    assert "Index Only Scan using usage_daily_sealed_pkey on usage_daily_sealed" in found
    assert "Seq Scan on usage_daily_sealed" not in found


@pytest.fixture
def owner(db: None) -> int:
    """Make a user who owns five of 20,000 subscriptions, and another who owns half of them."""
    few, half = User.objects.create_user("few"), User.objects.create_user("half")
    run_sql(
        "INSERT INTO usage_subscription (id, external_id, owner_id) SELECT number, number::text,"
        " CASE WHEN mod(number, 4000) = 7 THEN %s WHEN mod(number, 2) = 0 THEN %s END"
        " FROM generate_series(1, 20000) AS numbers (number)",
        [few.pk, half.pk],
    )
    run_sql("ANALYZE usage_subscription")
    return few.pk


@pytest.mark.parametrize(
    ("usage_list", "query"),
    [
        (all_lists.Totals(), ""),
        (all_lists.Totals(), "month=2026-11"),
        (all_lists.Daily(), "ordering=-total_price"),
        (all_lists.OverLimit(), "price_limit=1&from_date=2026-11-02"),
    ],
)
def test_subscriptions_of_an_owner_are_looked_up_in_the_index(
    many: None, owner: int, usage_list: UsageList, query: str
) -> None:
    found = plan(usage_list, query, owner=owner)
    assert "Index Cond: (owner_id = " in found
    assert "Seq Scan" not in found


def test_named_subscriptions_of_an_owner_are_looked_up_in_the_index(many: None, owner: int) -> None:
    found = plan(all_lists.Totals(), "subscription_id=1,7,8&month=2026-11", owner=owner)
    assert "Seq Scan" not in found


def test_period_totals_of_an_owner_are_looked_up_in_the_index(
    many_periods: None, owner: int
) -> None:
    found = plan(all_lists.OverLimit(), "price_limit=1", source=Source.PERIODS, owner=owner)
    assert "Index Cond: (owner_id = " in found
    assert "Seq Scan" not in found

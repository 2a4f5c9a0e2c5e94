"""GET /api/v1/usage/over-limit/: subscriptions whose price reached a limit, and by how much."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import fill_totals, results

PATH = "usage/over-limit"


@pytest.fixture(params=["periods", "daily"])
def usage(db: None, request: pytest.FixtureRequest) -> None:
    """Make usage, with period totals or without: a new release has none until its first refresh."""
    for number, name in enumerate(["anna", "bob", "cleo", "dora"], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-10-31T23:59:59Z  4.00       10
        data  anna 2026-11-01T00:00:00Z  6.50       10
        voice anna 2026-11-01T08:00:00Z  2.25       60
        voice bob  2026-11-02T08:00:00Z 10.50       60
        data  cleo 2026-11-02T08:00:00Z  0.00000001  1
        voice cleo 2026-11-02T08:00:00Z  0           0
        data  dora 2026-11-03T08:00:00Z -3.00        0
    """)
    fill_totals(with_periods=request.param == "periods")


def test_a_total_equal_to_the_limit_has_reached_it(
    usage: None, client_with_token: APIClient
) -> None:
    assert results(client_with_token, PATH, "price_limit=10.5") == [
        {
            "subscription_id": 1,
            "exceeded": [{"usage_type": "data", "total_price": "10.5", "exceeded_by": "0"}],
        },
        {
            "subscription_id": 2,
            "exceeded": [{"usage_type": "voice", "total_price": "10.5", "exceeded_by": "0"}],
        },
    ]
    assert results(client_with_token, PATH, "price_limit=10.50000001") == []


def test_every_type_that_reached_the_limit_is_listed(
    usage: None, client_with_token: APIClient
) -> None:
    assert results(client_with_token, PATH, "price_limit=2&subscription_id=1") == [
        {
            "subscription_id": 1,
            "exceeded": [
                {"usage_type": "data", "total_price": "10.5", "exceeded_by": "8.5"},
                {"usage_type": "voice", "total_price": "2.25", "exceeded_by": "0.25"},
            ],
        }
    ]


def test_the_largest_total_comes_first_then_the_smaller_id(
    usage: None, client_with_token: APIClient
) -> None:
    found = results(client_with_token, PATH, "price_limit=0")
    assert [row["subscription_id"] for row in found] == [1, 2, 3]
    assert found[2]["exceeded"] == [
        {"usage_type": "data", "total_price": "0.00000001", "exceeded_by": "0.00000001"},
        {"usage_type": "voice", "total_price": "0", "exceeded_by": "0"},
    ]


def test_only_the_chosen_type_and_days_count(usage: None, client_with_token: APIClient) -> None:
    def over(query: str) -> list[int]:
        return [row["subscription_id"] for row in results(client_with_token, PATH, query)]

    assert over("price_limit=10&usage_type=data") == [1]
    assert over("price_limit=10&usage_type=voice") == [2]
    assert over("price_limit=6&month=2026-11") == [2, 1]
    assert over("price_limit=6&from_date=2026-11-01&to_date=2026-11-01") == [1]
    assert over("price_limit=7&month=2026-11&usage_type=data") == []


def test_a_credit_is_below_every_limit(usage: None, client_with_token: APIClient) -> None:
    assert results(client_with_token, PATH, "price_limit=0&external_id=dora") == []


def test_money_beyond_28_digits_stays_exact(db: None, client_with_token: APIClient) -> None:
    make_subscription("rich", id=9)
    given("data rich 2026-11-01T10:00:00Z 999999999999.99999999 1")
    given("data rich 2026-11-01T11:00:00Z 0.00000002 1")
    fill_totals()
    [row] = results(client_with_token, PATH, "price_limit=0.00000003")
    assert row["exceeded"] == [
        {
            "usage_type": "data",
            "total_price": "1000000000000.00000001",
            "exceeded_by": "999999999999.99999998",
        }
    ]


@pytest.mark.parametrize(
    ("days", "relation"),
    [
        ("", "usage_period_total"),
        ("month=2026-11", "usage_period_total"),
        ("from_date=2026-11-01&to_date=2026-11-30", "usage_period_total"),
        ("from_date=2024-02-01&to_date=2024-02-29", "usage_period_total"),
        ("from_date=2026-11-01&to_date=2026-11-29", "usage_daily"),
        ("from_date=2026-10-01&to_date=2026-11-30", "usage_daily"),
        ("from_date=2026-11-02&to_date=2026-11-30", "usage_daily"),
        ("from_date=2026-11-01", "usage_daily"),
        ("to_date=2026-11-30", "usage_daily"),
        ("live=true", "usage_daily_live"),
    ],
)
def test_whole_months_and_all_days_are_read_from_their_totals(
    db: None, client_with_token: APIClient, days: str, relation: str
) -> None:
    fill_totals()
    with CaptureQueriesContext(connection) as queries:
        results(client_with_token, PATH, f"price_limit=1&{days}")
    assert f'FROM "{relation}"' in queries.captured_queries[-1]["sql"]
    assert len(queries) == 2

"""GET /api/v1/usage/totals/ and /daily/: totals by type, over days and by day."""

from datetime import datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import AS_OF, fill_totals, get_page, results


@pytest.fixture
def usage(db: None) -> None:
    for number, name in enumerate(["anna", "bob", "unused"], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-10-31T23:59:59.999999Z 0.10       1024
        data  anna 2026-11-01T00:00:00Z        0.20       4294967296
        data  anna 2026-11-30T23:59:59Z        0.00000001 4294967296
        voice anna 2026-11-01T12:30:00Z        0          0
        voice bob  2026-12-01T00:00:00Z       -1.50       30
    """)
    fill_totals()


def test_totals_of_a_month_by_type_without_adding_units(
    usage: None, client_with_token: APIClient
) -> None:
    assert get_page(client_with_token, "usage/totals", "month=2026-11") == {
        "as_of": AS_OF,
        "live": False,
        "time_zone": "UTC",
        "currency": "USD",
        "from_date": "2026-11-01",
        "to_date": "2026-11-30",
        "next": None,
        "results": [
            {
                "subscription_id": 1,
                "usage_type": "data",
                "unit": "kilobytes",
                "total_price": "0.20000001",
                "total_usage": 8589934592,
                "record_count": 2,
                "first_day": "2026-11-01",
                "last_day": "2026-11-30",
            },
            {
                "subscription_id": 1,
                "usage_type": "voice",
                "unit": "seconds",
                "total_price": "0",
                "total_usage": 0,
                "record_count": 1,
                "first_day": "2026-11-01",
                "last_day": "2026-11-01",
            },
        ],
    }


def prices(found: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(row["subscription_id"], row["usage_type"], row["total_price"]) for row in found]


def test_either_end_of_the_days_may_be_open(usage: None, client_with_token: APIClient) -> None:
    until = get_page(client_with_token, "usage/totals", "to_date=2026-10-31")
    assert (until["from_date"], until["to_date"]) == (None, "2026-10-31")
    assert prices(until["results"]) == [(1, "data", "0.1")]
    since = get_page(client_with_token, "usage/totals", "from_date=2026-12-01")
    assert (since["from_date"], since["to_date"]) == ("2026-12-01", None)
    assert prices(since["results"]) == [(2, "voice", "-1.5")]


def test_a_subscription_must_be_in_both_lists(usage: None, client_with_token: APIClient) -> None:
    def subscriptions(query: str) -> set[int]:
        return {row["subscription_id"] for row in results(client_with_token, "usage/totals", query)}

    assert (
        subscriptions("subscription_id=1,2")
        == subscriptions("subscription_id=2&subscription_id=1")
        == {1, 2}
    )
    assert subscriptions("external_id=bob,unused,nobody") == {2}
    assert subscriptions("subscription_id=1,2&external_id=bob") == {2}
    assert subscriptions("subscription_id=1&external_id=bob") == set()
    assert subscriptions("subscription_id=9223372036854775807") == set()


def test_daily_gives_one_row_of_the_view_with_its_unit(
    usage: None, client_with_token: APIClient
) -> None:
    [row] = results(client_with_token, "usage/daily", "external_id=bob")
    assert row == {
        "subscription_id": 2,
        "day": "2026-12-01",
        "usage_type": "voice",
        "unit": "seconds",
        "total_price": "-1.5",
        "total_usage": 30,
        "record_count": 1,
        "last_usage_at": "2026-12-01T00:00:00.000000Z",
    }
    last = results(client_with_token, "usage/daily", "to_date=2026-10-31")[0]["last_usage_at"]
    assert last == "2026-10-31T23:59:59.999999Z"
    assert datetime.fromisoformat(last).utcoffset() is not None


@pytest.mark.parametrize(
    ("ordering", "expected"),
    [
        ("", ["1 10-31 data", "1 11-01 data", "1 11-01 voice", "1 11-30 data", "2 12-01 voice"]),
        ("day", ["1 10-31 data", "1 11-01 data", "1 11-01 voice", "1 11-30 data", "2 12-01 voice"]),
        (
            "-day",
            ["2 12-01 voice", "1 11-30 data", "1 11-01 data", "1 11-01 voice", "1 10-31 data"],
        ),
        (
            "total_price",
            ["2 12-01 voice", "1 11-01 voice", "1 11-30 data", "1 10-31 data", "1 11-01 data"],
        ),
        (
            "-total_price",
            ["1 11-01 data", "1 10-31 data", "1 11-30 data", "1 11-01 voice", "2 12-01 voice"],
        ),
    ],
)
def test_daily_in_every_order(
    usage: None, client_with_token: APIClient, ordering: str, expected: list[str]
) -> None:
    query = f"ordering={ordering}" if ordering else ""
    found = results(client_with_token, "usage/daily", query)
    assert [
        f"{row['subscription_id']} {row['day'][5:]} {row['usage_type']}" for row in found
    ] == expected


def test_a_sum_of_more_than_64_bits_stays_exact(usage: None, client_with_token: APIClient) -> None:
    run_sql(
        "INSERT INTO usage_daily_sealed SELECT 3, day, 'data', 0.00000001, 9223372036854775807,"
        " 1, now() FROM generate_series('2026-11-01', '2026-11-03', interval '1 day') AS days (day)"
    )
    [row] = results(client_with_token, "usage/totals", "subscription_id=3")
    assert row["total_usage"] == 27670116110564327421
    assert row["total_price"] == "0.00000003"
    assert (row["first_day"], row["last_day"]) == ("2026-11-01", "2026-11-03")


@pytest.mark.parametrize("path", ["usage/totals", "usage/daily"])
def test_a_type_of_another_release_has_no_unit(
    usage: None, client_with_token: APIClient, path: str
) -> None:
    """Fails with status 500 when the release before a type reads a database that has it."""
    run_sql(
        "INSERT INTO usage_daily_sealed (subscription_id, day, usage_type, total_price,"
        " total_usage, record_count, last_usage_at)"
        " VALUES (1, '2026-10-31', 'sms', 1, 2, 3, '2026-10-31T10:00Z')"
    )
    found = results(client_with_token, path, "from_date=2026-10-31&to_date=2026-10-31")
    assert [(row["usage_type"], row["unit"]) for row in found] == [
        ("data", "kilobytes"),
        ("sms", ""),
    ]

"""GET /api/v1/usage/records/ and /subscriptions/: the sources of the totals."""

from collections.abc import Callable
from datetime import date
from uuid import UUID

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from tests.usage.api.api_requests import fill_totals, get, get_page, only_error, results, statements
from usage import sql
from usage.models import DataUsageRecord
from usage.services.totals.retention import prune


@pytest.fixture
def anna(db: None) -> None:
    anna = make_subscription("anna", id=1)
    data_record(anna, "2026-10-31T23:59:59.999999Z", price="1", kilobytes=1)
    data_record(anna, "2026-11-01T23:59:59.999999Z", price="0.10", kilobytes=2)
    data_record(anna, "2026-11-01T02:00:00+02:00", price="-0.00000001", kilobytes=3)
    data_record(anna, "2026-11-02T00:00:00Z", price="1", kilobytes=4)
    voice_record(anna, "2026-11-01T10:00:00Z", price="5", seconds=60)
    data_record(make_subscription("bob", id=2), "2026-11-01T10:00:00Z", kilobytes=5)
    fill_totals()


QUERY = "subscription_id=1&usage_type={}&day=2026-11-01"


def test_records_of_one_day_and_type_by_moment(anna: None, client_with_token: APIClient) -> None:
    found = get_page(client_with_token, "usage/records", QUERY.format("data"))
    assert (found["live"], found["from_date"], found["to_date"], found["next"]) == (
        True,
        "2026-11-01",
        "2026-11-01",
        None,
    )
    assert all(UUID(record.pop("id")) for record in found["results"])
    assert found["results"] == [
        {
            "usage_date": "2026-11-01T00:00:00.000000Z",
            "price": "-0.00000001",
            "quantity": 3,
            "unit": "kilobytes",
        },
        {
            "usage_date": "2026-11-01T23:59:59.999999Z",
            "price": "0.1",
            "quantity": 2,
            "unit": "kilobytes",
        },
    ]
    [call] = results(client_with_token, "usage/records", QUERY.format("voice"))
    assert (call["price"], call["quantity"], call["unit"]) == ("5", 60, "seconds")


def test_records_of_one_moment_are_in_the_order_of_their_ids(
    anna: None, client_with_token: APIClient
) -> None:
    ids = [UUID(int=number) for number in (3, 1, 2)]
    for identity in ids:
        DataUsageRecord.objects.create(
            id=identity, subscription_id=2, usage_date="2026-11-05T10:00:00Z", kilobytes_used=1
        )
    found = results(
        client_with_token, "usage/records", "subscription_id=2&usage_type=data&day=2026-11-05"
    )
    assert [UUID(record["id"]).int for record in found] == [1, 2, 3]


@pytest.mark.one_server("no function changes after records in a transaction")
def test_records_follow_the_zone_where_midnight_comes_twice(
    anna: None, client_with_token: APIClient
) -> None:
    """In the Azores clocks go back at 01:00Z on 2026-10-25, so midnight is at 00:00Z and at 01:00Z.
    The bound of the 24th is the second midnight, so usage_day has to decide."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('usage.time_zone', 'Atlantic/Azores', true)")
        for name in ("usage_day", "usage_day_start", "usage_day_end"):
            cursor.execute(sql.read(name, 1))
    subscription = make_subscription("azores", id=3)
    for kilobytes, at in enumerate(
        [
            "2026-10-24T23:59:59Z",
            "2026-10-25T00:00:00Z",
            "2026-10-25T00:59:59Z",
            "2026-10-25T01:00:00Z",
        ],
        start=1,
    ):
        data_record(subscription, at, kilobytes=kilobytes)

    def quantities(day: str) -> list[int]:
        query = f"subscription_id=3&usage_type=data&day={day}"
        found = results(client_with_token, "usage/records", query)
        return [record["quantity"] for record in found]

    assert quantities("2026-10-24") == [1]
    assert quantities("2026-10-25") == [2, 3, 4]


def test_subscriptions_by_id_with_the_envelope_of_every_list(
    anna: None, client_with_token: APIClient
) -> None:
    found = get_page(client_with_token, "subscriptions")
    assert list(found) == [
        "as_of",
        "live",
        "time_zone",
        "currency",
        "from_date",
        "to_date",
        "next",
        "results",
    ]
    assert (found["live"], found["from_date"], found["to_date"]) == (True, None, None)
    assert [list(row) for row in found["results"]] == [
        ["subscription_id", "external_id", "created_at"]
    ] * 2
    assert [(row["subscription_id"], row["external_id"]) for row in found["results"]] == [
        (1, "anna"),
        (2, "bob"),
    ]
    assert found["results"][0]["created_at"].endswith("Z")


def test_subscriptions_that_do_not_exist_are_absent(
    anna: None, client_with_token: APIClient
) -> None:
    def subscriptions(query: str) -> list[int]:
        return [
            row["subscription_id"] for row in results(client_with_token, "subscriptions", query)
        ]

    assert subscriptions("external_id=bob,nobody") == [2]
    assert subscriptions("subscription_id=2,1,77") == [1, 2]
    assert subscriptions("subscription_id=1&external_id=bob") == []


def test_records_of_a_day_that_retention_closed_are_410(
    sealed_usage: None, client_with_token: APIClient, clock_at: Callable[[str], None]
) -> None:
    clock_at("2026-12-07")
    refresh_and_seal()
    assert prune().first_kept_day == date(2026, 11, 3)
    query = "subscription_id=1&usage_type=data&day="
    response = get(client_with_token, "usage/records", f"{query}2026-11-02")
    assert len(statements(client_with_token, f"/api/v1/usage/records/?{query}2026-11-02")) == 1
    assert response.status_code == 410
    assert only_error(response, "client_error") == {
        "code": "records_dropped",
        "detail": "The raw records of 2026-11-02 are dropped: 2026-11-03 is the first day whose "
        "records are kept. The daily total of the day stays.",
        "attr": None,
    }
    kept = results(client_with_token, "usage/records", f"{query}2026-11-03")
    assert [record["price"] for record in kept] == ["1", "0.5"]
    assert not DataUsageRecord.objects.filter(usage_date__lt="2026-11-03T00:00:00Z").exists()
    for live in ("true", "false"):
        [data, _] = results(client_with_token, "usage/totals", f"subscription_id=1&live={live}")
        assert (data["total_price"], data["first_day"]) == ("4.5", "2026-11-01")

"""Pages by key: each row exactly once, and a cursor for its own query only."""

from datetime import UTC, datetime
from itertools import chain
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.core.signing import Signer
from rest_framework.test import APIClient

from tests.factories import data_record, make_subscription
from tests.usage.api.api_requests import (
    cursor_of,
    faults,
    fill_totals,
    get,
    get_page,
    pages,
    statements,
)
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord


@pytest.fixture
def twins(db: None) -> None:
    """Make twelve subscriptions, three days, both types. Each total is 1: keys decide the order."""
    Subscription.objects.bulk_create(
        Subscription(id=number, external_id=f"twin {number}") for number in range(1, 13)
    )
    moments = [
        (number, datetime(2026, 11, day, 10, tzinfo=UTC))
        for number in range(1, 13)
        for day in (1, 2, 3)
    ]
    DataUsageRecord.objects.bulk_create(
        DataUsageRecord(subscription_id=number, usage_date=at, price=1, kilobytes_used=1)
        for number, at in moments
    )
    VoiceUsageRecord.objects.bulk_create(
        VoiceUsageRecord(subscription_id=number, usage_date=at, price=1, seconds_used=1)
        for number, at in moments
    )
    # Many records of one moment differ only in their id.
    DataUsageRecord.objects.bulk_create(
        DataUsageRecord(
            id=UUID(int=number),
            subscription_id=1,
            usage_date=datetime(2026, 11, 5, 10, tzinfo=UTC),
            price=0,
            kilobytes_used=number,
        )
        for number in range(1, 13)
    )
    fill_totals()


QUERIES = [
    ("usage/over-limit", "price_limit=3"),
    ("usage/over-limit", "price_limit=1&usage_type=voice&month=2026-11"),
    ("usage/totals", ""),
    ("usage/daily", ""),
    ("usage/daily", "ordering=day"),
    ("usage/daily", "ordering=-day"),
    ("usage/daily", "ordering=total_price"),
    ("usage/daily", "ordering=-total_price&subscription_id=1,2,3"),
    ("usage/records", "subscription_id=1&usage_type=data&day=2026-11-05"),
    ("subscriptions", ""),
    ("usage/over-limit", "price_limit=3&live=true"),
    ("usage/totals", "live=true&subscription_id=1,2,3,4,5,6,7,8"),
    ("usage/daily", "live=true&ordering=-day&external_id=twin%201,twin%202,twin%203"),
    ("usage/daily", "live=true&ordering=total_price&subscription_id=1,2,3"),
]


@pytest.mark.parametrize(("path", "query"), QUERIES)
def test_pages_give_every_row_once_in_the_order_of_one_page(
    twins: None, client_with_token: APIClient, path: str, query: str
) -> None:
    whole = get_page(client_with_token, path, f"{query}&page_size=1000")
    assert whole["next"] is None
    assert len(whole["results"]) > 10
    found = pages(client_with_token, path, f"{query}&page_size=5")
    assert all(len(page) == 5 for page in found[:-1])
    assert list(chain(*found)) == whole["results"]


def test_a_full_last_page_has_no_next(twins: None, client_with_token: APIClient) -> None:
    found = pages(client_with_token, "subscriptions", "page_size=6")
    assert [len(page) for page in found] == [6, 6]


def test_a_page_holds_100_rows_by_default(db: None, client_with_token: APIClient) -> None:
    Subscription.objects.bulk_create(
        Subscription(external_id=f"subscription {number}") for number in range(1001)
    )
    fill_totals()
    sizes = [len(page) for page in pages(client_with_token, "subscriptions", "page_size=1000")]
    assert sizes == [1000, 1]
    assert len(get_page(client_with_token, "subscriptions")["results"]) == 100


def test_next_is_absolute_and_keeps_the_query(twins: None, client_with_token: APIClient) -> None:
    url = urlsplit(
        get_page(
            client_with_token,
            "usage/daily",
            "subscription_id=1,2&subscription_id=3&page_size=2&external_id=twin%201,twin%203",
        )["next"]
    )
    assert (url.scheme, url.netloc, url.path) == ("http", "testserver", "/api/v1/usage/daily/")
    parameters = parse_qs(url.query)
    assert parameters.pop("cursor")
    assert parameters == {
        "subscription_id": ["1,2", "3"],
        "page_size": ["2"],
        "external_id": ["twin 1,twin 3"],
    }


def test_pages_of_one_query_may_differ_in_size_and_spelling(
    twins: None, client_with_token: APIClient
) -> None:
    first = get_page(client_with_token, "usage/over-limit", "price_limit=3.0&page_size=2")
    second = get_page(
        client_with_token,
        "usage/over-limit",
        f"cursor={cursor_of(first)}&price_limit=3&page_size=4",
    )
    assert [row["subscription_id"] for row in first["results"]] == [1, 2]
    assert [row["subscription_id"] for row in second["results"]] == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage/totals", "subscription_id=1,2,3"),
        ("usage/totals", "usage_type=data"),
        ("usage/totals", "month=2026-11"),
        ("usage/totals", "from_date=2026-11-01"),
        ("usage/daily", ""),
        ("usage/over-limit", "price_limit=1"),
        ("subscriptions", ""),
    ],
)
def test_a_cursor_of_another_query_is_refused(
    twins: None, client_with_token: APIClient, path: str, query: str
) -> None:
    cursor = cursor_of(get_page(client_with_token, "usage/totals", "page_size=2"))
    assert faults(client_with_token, path, f"{query}&cursor={cursor}") == [
        ("cursor", "other_query")
    ]


def test_a_cursor_of_another_order_is_refused(twins: None, client_with_token: APIClient) -> None:
    cursor = cursor_of(get_page(client_with_token, "usage/daily", "ordering=day&page_size=2"))
    assert faults(client_with_token, "usage/daily", f"ordering=-day&cursor={cursor}") == [
        ("cursor", "other_query")
    ]


def test_a_cursor_that_was_tampered_with_is_refused(
    twins: None, client_with_token: APIClient
) -> None:
    cursor = cursor_of(get_page(client_with_token, "subscriptions", "page_size=2"))
    content, signature = cursor.split(":")
    forged = Signer(salt="something else").sign_object(["", [5]])
    for tampered in [
        f"{content[:-1]}{'A' if content[-1] != 'A' else 'B'}:{signature}",
        f"{content}:{signature[:-1]}",
        content,
        forged,
        "%00",
        "x" * 5000,
        "é:é",
    ]:
        assert faults(client_with_token, "subscriptions", f"cursor={tampered}") == [
            ("cursor", "invalid")
        ]


def test_rows_that_appear_and_vanish_between_pages_repeat_no_other(
    twins: None, client_with_token: APIClient
) -> None:
    """Fails when docs/api.md is wrong about a refresh between two pages, in orders by key."""
    first = get_page(client_with_token, "usage/daily", "page_size=6&usage_type=data")
    newcomer = make_subscription("newcomer", id=13)
    data_record(newcomer, "2026-11-02T10:00:00Z")
    data_record(Subscription.objects.get(id=1), "2026-10-01T10:00:00Z")
    DataUsageRecord.objects.filter(subscription_id=2).delete()
    fill_totals()
    rest: list[int] = []
    url = first["next"]
    while url:
        page = client_with_token.get(url).json()
        rest += [row["subscription_id"] for row in page["results"]]
        url = page["next"]
    seen = [row["subscription_id"] for row in first["results"]] + rest
    assert seen == [1, 1, 1, 1, 2, 2] + [n for n in range(3, 13) for _ in range(3)] + [13]


@pytest.mark.parametrize(("path", "query"), QUERIES)
def test_a_page_takes_two_queries_without_count_or_offset(
    twins: None, client_with_token: APIClient, path: str, query: str
) -> None:
    url = get_page(client_with_token, path, f"{query}&page_size=2")["next"]
    assert client_with_token.get(url).status_code == 200
    sign_in, rows = statements(client_with_token, url)
    assert "usage_accesstoken" in sign_in
    assert "usage_state" in sign_in
    assert rows.endswith(("LIMIT 3", ", 3)"))
    assert " LIMIT " in rows
    assert "OFFSET" not in rows
    assert "COUNT" not in rows
    assert get(client_with_token, path, query, accept="*/*").status_code == 200

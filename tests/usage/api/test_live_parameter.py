"""live=true: totals of the raw records at the moment of the request, marked as live."""

from datetime import datetime
from itertools import chain
from typing import Any

import pytest
from django.db import connection
from rest_framework.test import APIClient

from tests.connections import ask, second_session
from tests.usage.api.api_requests import (
    LISTS,
    cursor_of,
    database_clock,
    faults,
    get_page,
    moment,
    pages,
    results,
    statements,
)
from usage.models import UsageState

INSERT = (
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
    " VALUES (1, '2026-11-03T20:00:00Z', 100, 1000)"
)


def test_live_totals_are_those_of_the_raw_records(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    before = database_clock()
    found = get_page(client_with_token, "usage/totals", "live=true&subscription_id=1,2")
    assert found["live"] is True
    assert before < moment(found) < database_clock()
    assert found["results"] == [
        {
            "subscription_id": 1,
            "usage_type": "data",
            "unit": "kilobytes",
            "total_price": "4.5",
            "total_usage": 45,
            "record_count": 4,
            "first_day": "2026-11-01",
            "last_day": "2026-11-03",
        },
        {
            "subscription_id": 1,
            "usage_type": "voice",
            "unit": "seconds",
            "total_price": "11",
            "total_usage": 90,
            "record_count": 2,
            "first_day": "2026-11-01",
            "last_day": "2026-12-24",
        },
    ]


@pytest.mark.parametrize("live", ["", "live=false&"])
def test_a_response_from_the_totals_says_so(
    sealed_usage: None, client_with_token: APIClient, live: str
) -> None:
    found = get_page(client_with_token, "usage/totals", f"{live}subscription_id=1,2")
    assert list(found)[:2] == ["as_of", "live"]
    assert found["live"] is False
    assert moment(found) == UsageState.objects.get().as_of
    assert [
        (row["subscription_id"], row["usage_type"], row["total_price"]) for row in found["results"]
    ] == [(1, "data", "2"), (1, "voice", "7"), (2, "data", "5")]


@pytest.mark.parametrize(
    "who", ["subscription_id=1,2", "external_id=bob,anna", "subscription_id=1&external_id=anna,bob"]
)
def test_live_days_narrow_by_every_parameter(
    sealed_usage: None, client_with_token: APIClient, who: str
) -> None:
    def days(query: str) -> list[str]:
        found = results(client_with_token, "usage/daily", f"live=true&{who}&{query}")
        return [f"{row['day'][5:]} {row['usage_type']} {row['total_price']}" for row in found]

    assert days("") == [
        "11-01 data 3",
        "11-01 voice 7",
        "11-03 data 1.5",
        "12-24 voice 4",
    ]
    assert days("from_date=2026-11-02") == ["11-03 data 1.5", "12-24 voice 4"]
    assert days("to_date=2026-11-03") == ["11-01 data 3", "11-01 voice 7", "11-03 data 1.5"]
    assert days("to_date=2026-11-02") == ["11-01 data 3", "11-01 voice 7"]
    assert days("month=2026-12") == ["12-24 voice 4"]
    assert days("usage_type=data&ordering=-day") == ["11-03 data 1.5", "11-01 data 3"]
    assert days("ordering=total_price&page_size=2") == ["11-03 data 1.5", "11-01 data 3"]


def test_a_live_subscription_must_be_in_both_lists(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    query = "live=true&subscription_id=1&external_id=bob"
    assert results(client_with_token, "usage/totals", query) == []


def test_live_over_limit_of_everybody_and_of_named_ones(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    anna = {
        "subscription_id": 1,
        "exceeded": [
            {"usage_type": "data", "total_price": "4.5", "exceeded_by": "0"},
            {"usage_type": "voice", "total_price": "11", "exceeded_by": "6.5"},
        ],
    }
    for who in ("", "&subscription_id=1,2", "&external_id=anna"):
        found = get_page(client_with_token, "usage/over-limit", f"live=true&price_limit=4.50{who}")
        assert (found["live"], found["results"]) == (True, [anna])
    assert results(
        client_with_token, "usage/over-limit", "live=true&price_limit=4.51&month=2026-11"
    )[0]["exceeded"] == [{"usage_type": "voice", "total_price": "7", "exceeded_by": "2.49"}]


@pytest.mark.parametrize("path", ["usage/totals", "usage/daily"])
def test_live_lists_of_everybody_are_refused(
    sealed_usage: None, client_with_token: APIClient, path: str
) -> None:
    assert faults(client_with_token, path, "live=true&month=2026-11") == [("live", "required")]
    assert faults(client_with_token, path, "live=true&subscription_id=0") == [
        ("subscription_id", "invalid")
    ]


@pytest.mark.parametrize("value", ["True", "TRUE", "1", "yes", "on", "t", "true,false", "null"])
def test_live_is_true_or_false(db: None, client_with_token: APIClient, value: str) -> None:
    query = f"subscription_id=1&live={value}"
    assert faults(client_with_token, "usage/daily", query) == [("live", "invalid")]


def test_live_is_no_parameter_of_lists_that_are_always_live(
    db: None, client_with_token: APIClient
) -> None:
    for path in ("usage/records", "subscriptions"):
        query = f"{LISTS[path]}&live=true"
        assert faults(client_with_token, path, query) == [("live", "unknown")]


def test_uncommitted_records_are_not_shown(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    def price() -> str:
        query = "live=true&subscription_id=1&usage_type=data"
        return results(client_with_token, "usage/totals", query)[0]["total_price"]

    with second_session() as other:
        ask(other, INSERT)
        assert price() == "4.5"
        other.commit()
        assert price() == "104.5"


def test_as_of_of_a_live_response_is_before_its_snapshot(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    """Fails when the clock is read after the totals: a record committed between the two would be
    missing, although it is older than as_of."""
    committed: list[datetime] = []

    def commit_behind(execute: Any, statement: str, *arguments: Any) -> Any:
        rows = execute(statement, *arguments)
        if "usage_daily_live_of" in statement:
            with second_session(autocommit=True) as other:
                committed.append(ask(other, "SELECT clock_timestamp()")[0][0])
                ask(other, INSERT)
        return rows

    with connection.execute_wrapper(commit_behind):
        found = get_page(client_with_token, "usage/totals", "live=true&subscription_id=1")
    assert found["results"][0]["total_price"] == "4.5"
    assert len(committed) == 1
    assert moment(found) < committed[0]


def test_live_pages_give_every_row_once(sealed_usage: None, client_with_token: APIClient) -> None:
    for path, order in [
        ("usage/daily", ""),
        ("usage/daily", "&ordering=-total_price"),
        ("usage/totals", ""),
    ]:
        whole = results(client_with_token, path, f"live=true&external_id=anna,bob{order}")
        found = pages(client_with_token, path, f"live=true&external_id=anna,bob{order}&page_size=1")
        assert [len(page) for page in found] == [1] * len(whole)
        assert list(chain(*found)) == whole


def test_a_cursor_of_a_live_query_belongs_to_live_pages(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    query = "subscription_id=1&page_size=1"
    live = cursor_of(get_page(client_with_token, "usage/totals", f"{query}&live=true"))
    plain = cursor_of(get_page(client_with_token, "usage/totals", query))
    assert faults(client_with_token, "usage/totals", f"{query}&cursor={live}") == [
        ("cursor", "other_query")
    ]
    assert faults(client_with_token, "usage/totals", f"{query}&live=true&cursor={plain}") == [
        ("cursor", "other_query")
    ]
    for manner in ("live=false", "max_staleness=604800"):
        found = get_page(client_with_token, "usage/totals", f"{query}&{manner}&cursor={plain}")
        assert [row["usage_type"] for row in found["results"]] == ["voice"]


@pytest.mark.parametrize(
    ("path", "query", "relation"),
    [
        ("usage/totals", "live=true&subscription_id=1", "usage_daily_live_of("),
        ("usage/daily", "live=true&external_id=anna", "usage_daily_live_of("),
        ("usage/over-limit", "live=true&price_limit=0&subscription_id=1", "usage_daily_live_of("),
        ("usage/over-limit", "live=true&price_limit=0", '"usage_daily_live"'),
        ("usage/totals", "max_staleness=0&subscription_id=1", "usage_daily_live_of("),
        ("usage/totals", "max_staleness=604800", '"usage_daily"'),
        ("usage/records", f"{LISTS['usage/records']}&max_staleness=0", '"usage_datausagerecord"'),
        ("subscriptions", "max_staleness=0", '"usage_subscription"'),
    ],
)
def test_a_response_of_any_age_takes_two_queries(
    sealed_usage: None, client_with_token: APIClient, path: str, query: str, relation: str
) -> None:
    sign_in, rows = statements(client_with_token, f"/api/v1/{path}/?{query}")
    assert "usage_accesstoken" in sign_in
    assert "usage_state" in sign_in
    assert f" FROM {relation}" in rows

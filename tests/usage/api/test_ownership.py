"""With usage:read:own, a subscription of another is as absent as one that doesn't exist."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.factories import client_of, data_record, make_subscription, voice_record
from tests.usage.api.asking import (
    LISTS,
    answer,
    cursor_of,
    faults,
    fill_totals,
    get,
    pages,
    results,
    statements,
)
from usage.models import Scope, Subscription, UsageState

NOVEMBER = "month=2026-11"
QUESTIONS = [
    ("usage/over-limit", f"price_limit=1&{NOVEMBER}"),
    ("usage/over-limit", "price_limit=1&from_date=2026-11-01"),
    ("usage/over-limit", "price_limit=1&usage_type=data"),
    ("usage/over-limit", "price_limit=1&live=true"),
    ("usage/totals", NOVEMBER),
    ("usage/daily", ""),
    ("usage/daily", "ordering=-total_price"),
    ("subscriptions", ""),
]
NAMED = [
    *QUESTIONS,
    ("usage/totals", "live=true"),
    ("usage/daily", "live=true"),
    ("usage/totals", "max_staleness=0"),
]


@pytest.fixture
def own(db: None) -> APIClient:
    """A client of anna, who owns 1 and 3; bob owns 2 and nobody 4. Each has usage."""
    anna, bob = User.objects.create_user("anna"), User.objects.create_user("bob")
    for number, owner in enumerate([anna, bob, anna, None], start=1):
        subscription = make_subscription(f"line {number}", id=number, owner=owner)
        for day in (1, 2):
            data_record(subscription, f"2026-11-0{day}T10:00:00Z", price="2", kilobytes=number)
            voice_record(subscription, f"2026-11-0{day}T10:00:00Z", price="1", seconds=number)
    fill_totals()
    return client_of(anna, Scope.READ_OWN)


def seen(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["subscription_id"] for row in rows})


@pytest.mark.parametrize(("path", "query"), QUESTIONS)
def test_only_own_subscriptions_are_there(
    own: APIClient, client_with_token: APIClient, path: str, query: str
) -> None:
    everybody = results(client_with_token, path, query)
    assert seen(everybody) == [1, 2, 3, 4]
    mine = results(own, path, query)
    assert mine == [row for row in everybody if row["subscription_id"] in {1, 3}]
    assert [row for page in pages(own, path, f"{query}&page_size=1") for row in page] == mine


@pytest.mark.parametrize(("path", "query"), NAMED)
@pytest.mark.parametrize("name", ["subscription_id={}", "external_id=line {}"])
def test_one_of_another_is_as_absent_as_one_that_does_not_exist(
    own: APIClient, path: str, query: str, name: str
) -> None:
    assert seen(results(own, path, f"{query}&{name.format('3')}")) == [3]
    for number in (2, 4, 999):
        there = get(own, path, f"{query}&{name.format(number)}")
        assert there.status_code == 200
        assert {**there.json(), "as_of": None} == {
            **get(own, path, f"{query}&{name.format(5)}").json(),
            "as_of": None,
        }
        assert there.json()["results"] == []


@pytest.mark.parametrize("usage_type", ["data", "voice"])
def test_records_of_another_are_not_there(own: APIClient, usage_type: str) -> None:
    query = f"usage_type={usage_type}&day=2026-11-01&subscription_id="
    assert len(results(own, "usage/records", f"{query}1")) == 1
    assert results(own, "usage/records", f"{query}2") == []
    assert results(own, "usage/records", f"{query}999") == []


def test_a_day_whose_records_are_dropped_is_gone_for_whatever_is_asked(own: APIClient) -> None:
    UsageState.objects.update(raw_kept_from="2026-11-02")
    query = "usage_type=data&day=2026-11-01&subscription_id="
    answers = [get(own, "usage/records", f"{query}{number}") for number in (1, 2, 999)]
    assert [found.status_code for found in answers] == [410, 410, 410]
    assert len({found.content for found in answers}) == 1


@pytest.mark.parametrize(("path", "query"), [*QUESTIONS, ("usage/records", LISTS["usage/records"])])
@pytest.mark.parametrize("ending", ["/?format=csv", ".csv?"])
def test_a_csv_holds_own_subscriptions_alone(
    own: APIClient, path: str, query: str, ending: str
) -> None:
    def lines(suffix: str) -> list[str]:
        response: Any = own.get(f"/api/v1/{path}{ending}&{query}{suffix}".replace("?&", "?"))
        assert response.status_code == 200
        return b"".join(response).decode().splitlines()[1:]

    if path == "usage/records":
        assert len(lines("")) == 1
        return
    assert {line.partition(",")[0] for line in lines("")} == {"1", "3"}
    assert lines("&subscription_id=2") == []


@pytest.mark.parametrize(("path", "query"), QUESTIONS)
def test_no_tag_tells_of_what_may_change_hands(own: APIClient, path: str, query: str) -> None:
    response = get(own, path, query, if_none_match="*")
    assert response.status_code == 200
    assert "ETag" not in response
    Subscription.objects.filter(pk=1).update(owner=None)
    assert seen(results(own, path, query)) == [3]


def test_a_cursor_of_one_who_sees_more_is_of_another_query(
    own: APIClient, client_with_token: APIClient
) -> None:
    found = answer(client_with_token, "usage/totals", "page_size=3")
    cursor = f"cursor={cursor_of(found)}"
    assert faults(own, "usage/totals", cursor) == [("cursor", "other_query")]


@pytest.mark.parametrize(("path", "query"), QUESTIONS)
def test_own_answers_take_two_queries(own: APIClient, path: str, query: str) -> None:
    sign_in, rows = statements(own, f"/api/v1/{path}/?{query}")
    assert "usage_accesstoken" in sign_in
    assert "owner_id" in rows


def test_live_usage_of_another_is_not_read(own: APIClient) -> None:
    """The function that reads raw records is asked for the subscriptions of the owner alone."""
    for query in ("price_limit=0&live=true", "price_limit=0&live=true&subscription_id=1,2"):
        _, rows = statements(own, f"/api/v1/usage/over-limit/?{query}")
        inner = rows.partition("usage_daily_live_of(")[2].partition(" AS ")[0]
        assert "owner_id = " in inner

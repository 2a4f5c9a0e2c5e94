"""usage:read:own: a subscription of another user is as absent as one that does not exist."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.factories import client_of, data_record, make_subscription, voice_record
from tests.usage.api.api_requests import (
    LISTS,
    cursor_of,
    faults,
    fill_totals,
    get,
    get_page,
    pages,
    results,
    statements,
)
from usage.models import Scope, Subscription, UsageState

NOVEMBER = "month=2026-11"
QUERIES = [
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
    *QUERIES,
    ("usage/totals", "live=true"),
    ("usage/daily", "live=true"),
    ("usage/totals", "max_staleness=0"),
]


@pytest.fixture
def own(db: None) -> APIClient:
    """Return a client of anna, who owns 1 and 3; bob owns 2, nobody owns 4. All have usage."""
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


@pytest.mark.parametrize(("path", "query"), QUERIES)
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
def test_one_of_another_user_is_as_absent_as_a_missing_one(
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


def test_a_day_whose_records_are_dropped_is_410_for_every_subscription(own: APIClient) -> None:
    UsageState.objects.update(raw_kept_from="2026-11-02")
    query = "usage_type=data&day=2026-11-01&subscription_id="
    responses = [get(own, "usage/records", f"{query}{number}") for number in (1, 2, 999)]
    assert [found.status_code for found in responses] == [410, 410, 410]
    assert len({found.content for found in responses}) == 1


@pytest.mark.parametrize(("path", "query"), [*QUERIES, ("usage/records", LISTS["usage/records"])])
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


@pytest.mark.parametrize(("path", "query"), QUERIES)
def test_responses_that_depend_on_the_owner_have_no_tag(
    own: APIClient, path: str, query: str
) -> None:
    response = get(own, path, query, if_none_match="*")
    assert response.status_code == 200
    assert "ETag" not in response
    Subscription.objects.filter(pk=1).update(owner=None)
    assert seen(results(own, path, query)) == [3]


def test_a_cursor_of_a_caller_who_sees_more_is_refused(
    own: APIClient, client_with_token: APIClient
) -> None:
    found = get_page(client_with_token, "usage/totals", "page_size=3")
    cursor = f"cursor={cursor_of(found)}"
    assert faults(own, "usage/totals", cursor) == [("cursor", "other_query")]


@pytest.mark.parametrize(("path", "query"), QUERIES)
def test_own_responses_take_two_queries(own: APIClient, path: str, query: str) -> None:
    sign_in, rows = statements(own, f"/api/v1/{path}/?{query}")
    assert "usage_accesstoken" in sign_in
    assert "owner_id" in rows


def test_live_usage_of_another_is_not_read(own: APIClient) -> None:
    """Fails when the function that reads raw records gets other subscriptions than the owner's."""
    for query in ("price_limit=0&live=true", "price_limit=0&live=true&subscription_id=1,2"):
        _, rows = statements(own, f"/api/v1/usage/over-limit/?{query}")
        inner = rows.partition("usage_daily_live_of(")[2].partition(" AS ")[0]
        assert "owner_id = " in inner

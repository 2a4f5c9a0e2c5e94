"""max_staleness=SECONDS: fresh totals, otherwise live ones, otherwise an error with their age."""

from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings
from django.utils import timezone
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.factories import data_record
from tests.usage.api.api_requests import (
    LISTS,
    database_clock,
    faults,
    get,
    get_page,
    moment,
    only_error,
    results,
    statements,
)
from usage.models import Subscription, UsageState


def age_totals(seconds: int) -> None:
    run_sql("UPDATE usage_state SET as_of = clock_timestamp() - %s * interval '1 s'", [seconds])


def test_totals_that_are_young_enough_are_used(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    age_totals(100)
    for query in ("max_staleness=200", "max_staleness=200&subscription_id=1"):
        found = get_page(client_with_token, "usage/totals", query)
        assert found["live"] is False
        assert moment(found) == UsageState.objects.get().as_of
        assert found["results"][0]["total_price"] == "2"


def test_older_totals_of_named_subscriptions_are_replaced_by_live_ones(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    age_totals(100)
    for path, query in LISTS.items():
        for who in ("subscription_id=1", "external_id=anna"):
            if path == "usage/records":
                continue
            found = get_page(client_with_token, path, f"{query}&max_staleness=99&{who}")
            assert found["live"] is True
            assert database_clock() - moment(found) < timedelta(seconds=50)
    [row, _] = results(client_with_token, "usage/totals", "max_staleness=99&subscription_id=1")
    assert row["total_price"] == "4.5"


@pytest.mark.parametrize("path", ["usage/totals", "usage/daily", "usage/over-limit"])
def test_older_totals_of_everybody_are_503_and_say_how_old_they_are(
    sealed_usage: None, client_with_token: APIClient, settings: LazySettings, path: str
) -> None:
    settings.USAGE_REFRESH_SECONDS = 77
    age_totals(1000)
    query = f"{LISTS[path]}&max_staleness=900"
    response = get(client_with_token, path, query)
    assert len(statements(client_with_token, f"/api/v1/{path}/?{query}")) == 1
    assert response.status_code == 503
    assert response["Retry-After"] == "77"
    error = only_error(response, "server_error")
    assert error["code"] == "totals_too_old"
    assert error["detail"] in {
        f"The totals are {seconds} seconds old, max_staleness is 900. Ask again after the next "
        "refresh, allow older totals, or name subscriptions (subscription_id, external_id) for a "
        "live answer."
        for seconds in range(1001, 1010)
    }


def test_live_is_never_too_old(sealed_usage: None, client_with_token: APIClient) -> None:
    age_totals(1000)
    query = "live=true&max_staleness=0&price_limit=0"
    assert get_page(client_with_token, "usage/over-limit", query)["live"] is True


def test_age_is_by_the_clock_of_the_database(
    sealed_usage: None, client_with_token: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    age_totals(100)
    for off in (timedelta(days=-1), timedelta(days=1)):
        wrong = datetime.now(UTC) + off
        monkeypatch.setattr(timezone, "now", lambda wrong=wrong: wrong)
        assert get_page(client_with_token, "usage/totals", "max_staleness=200")["live"] is False
        assert get(client_with_token, "usage/totals", "max_staleness=50").status_code == 503


@pytest.mark.parametrize("value", ["-1", "604801", "1.5", "1e2", "ten", "%2B5", "%D9%A3"])
@pytest.mark.parametrize("path", LISTS)
def test_max_staleness_is_whole_seconds_up_to_a_week(
    db: None, client_with_token: APIClient, path: str, value: str
) -> None:
    query = f"{LISTS[path]}&max_staleness={value}"
    assert faults(client_with_token, path, query) == [("max_staleness", "invalid")]


def test_lists_that_are_read_directly_are_as_of_now(
    sealed_usage: None, client_with_token: APIClient
) -> None:
    """Fails when a list that is always live depends on the age of the totals."""
    age_totals(100_000)
    data_record(Subscription.objects.get(id=2), "2026-11-02T14:00:00Z", price="3", kilobytes=30)
    for path in ("usage/records", "subscriptions"):
        query = "subscription_id=2&usage_type=data&day=2026-11-02" if "records" in path else ""
        before = database_clock()
        found = get_page(client_with_token, path, f"{query}&max_staleness=0")
        assert found["live"] is True
        assert before < moment(found) < database_clock()
    query = "subscription_id=2&usage_type=data&day=2026-11-02"
    assert [row["price"] for row in results(client_with_token, "usage/records", query)] == ["3"]

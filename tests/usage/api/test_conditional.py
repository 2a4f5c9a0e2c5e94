"""If-None-Match: a known tag is a 304, after the sign-in and before totals are read."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.factories import client_of, data_record, make_subscription, refresh_totals
from tests.usage.api.api_requests import (
    LISTS,
    cursor_of,
    faults,
    fill_totals,
    get,
    get_page,
    only_error,
    statements,
)
from usage.api import responses
from usage.errors import RefreshRunningError
from usage.models import AccessToken, Subscription, UsageState
from usage.services.audit import verification
from usage.services.totals.pause import pause

TAGGED = {
    "usage/over-limit": "price_limit=0&month=2026-11",
    "usage/totals": "subscription_id=1&month=2026-11",
    "usage/daily": "ordering=-day",
}


@pytest.fixture
def usage(db: None) -> None:
    for number, name in enumerate(["anna", "bob"], start=1):
        data_record(make_subscription(name, id=number), "2026-11-01T10:00:00Z", price="1")
    fill_totals()


def read(response: Any) -> None:
    """Read a response to its end: half of a CSV would leave a transaction open."""
    for _ in response:
        pass


def tag(client: APIClient, path: str = "usage/totals", query: str = "", **headers: str) -> str:
    response = get(client, path, query, **headers)
    read(response)
    assert response.status_code == 200
    return response["ETag"]


def status_again(
    client: APIClient, known: str, path: str = "usage/totals", query: str = "", **headers: str
) -> int:
    response = get(client, path, query, if_none_match=known, **headers)
    read(response)
    return response.status_code


@pytest.mark.parametrize(("path", "query"), TAGGED.items())
def test_a_known_tag_is_304_without_a_read_of_totals(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    first = get(client_with_token, path, query)
    known = first["ETag"]
    [sign_in] = statements(client_with_token, f"/api/v1/{path}/?{query}", if_none_match=known)
    assert "usage_accesstoken" in sign_in
    again = get(client_with_token, path, query, if_none_match=known)
    assert (again.status_code, again.content) == (304, b"")
    assert "Content-Type" not in again
    for name in ("ETag", "Vary", "Cache-Control"):
        assert again[name] == first[name]


@pytest.mark.parametrize("manner", ["live=false&", "max_staleness=604800&", "page_size=100&"])
def test_one_query_written_in_two_ways_has_one_tag(
    usage: None, client_with_token: APIClient, manner: str
) -> None:
    known = tag(client_with_token, query="subscription_id=2,1&month=2026-11")
    query = f"{manner}to_date=2026-11-30&from_date=2026-11-01&subscription_id=1&subscription_id=2"
    if "staleness" in manner:
        UsageState.objects.update(as_of=datetime.now(UTC))
        known = tag(client_with_token, query="subscription_id=2,1&month=2026-11")
    assert status_again(client_with_token, known, query=query) == 304


@pytest.mark.parametrize(
    "header",
    ["{}", "W/{}", '{}, "other"', '"other",W/{}', ' "other" , {} ', "*"],
)
def test_tags_are_compared_as_http_says(
    usage: None, client_with_token: APIClient, header: str
) -> None:
    strong = tag(client_with_token).removeprefix("W/")
    assert status_again(client_with_token, header.format(strong)) == 304


@pytest.mark.parametrize(
    "header", ["", "nonsense", '"', '"other"', 'W/"other"', "\xff", "x" * 3000]
)
def test_an_unknown_tag_gets_the_response(
    usage: None, client_with_token: APIClient, header: str
) -> None:
    assert status_again(client_with_token, header) == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage/totals", "subscription_id=2"),
        ("usage/totals", "page_size=1"),
        ("usage/totals", "usage_type=data"),
        ("usage/totals", "from_date=2026-11-01"),
        ("usage/totals", "format=csv"),
        ("usage/daily", ""),
    ],
)
def test_another_query_gets_its_own_response(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    known = tag(client_with_token)
    assert status_again(client_with_token, known, path, query) == 200


def test_another_order_and_another_page_get_their_own_responses(
    usage: None, client_with_token: APIClient
) -> None:
    assert tag(client_with_token, "usage/daily", "ordering=day") != tag(
        client_with_token, "usage/daily", "ordering=-day"
    )
    first = get_page(client_with_token, "usage/totals", "page_size=1")
    known = tag(client_with_token, query="page_size=1")
    second = f"page_size=1&cursor={cursor_of(first)}"
    assert status_again(client_with_token, known, query=second) == 200
    assert (
        status_again(client_with_token, tag(client_with_token, query=second), query=second) == 304
    )


def test_another_format_has_another_tag(usage: None, client_with_token: APIClient) -> None:
    known = tag(client_with_token, accept="text/csv")
    assert status_again(client_with_token, known) == 200
    assert status_again(client_with_token, known, accept="text/csv") == 304
    assert status_again(client_with_token, known, query="format=csv") == 304


def test_another_user_gets_the_response(usage: None, client_with_token: APIClient) -> None:
    other = client_of(get_user_model().objects.create_user("other"))
    assert status_again(other, tag(client_with_token)) == 200


def test_a_refresh_changes_the_tag(usage: None, client_with_token: APIClient) -> None:
    known = tag(client_with_token)
    data_record(Subscription.objects.get(id=1), "2026-11-01T11:00:00Z", price="1")
    assert status_again(client_with_token, known) == 304
    fill_totals()
    UsageState.objects.update(as_of="2026-11-24T12:00:00.000001Z")
    assert status_again(client_with_token, known) == 200


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
def test_a_refresh_by_hand_changes_the_tag(
    state: None, client_with_token: APIClient, how: str
) -> None:
    """Fails when only the writes of `refresh_usage` change the tag."""
    data_record(make_subscription("anna", id=1), "2026-11-01T10:00:00Z", price="1")
    refresh_totals()
    known = tag(client_with_token)
    before = get_page(client_with_token, "usage/totals")["results"]
    data_record(Subscription.objects.get(id=1), "2026-11-01T11:00:00Z", price="1")
    run_sql(f"REFRESH MATERIALIZED VIEW {how} usage_daily_open")
    assert status_again(client_with_token, known) == 200
    assert get_page(client_with_token, "usage/totals")["results"] != before
    known = tag(client_with_token)
    run_sql("ANALYZE usage_daily_open")
    assert status_again(client_with_token, known) == 304


def test_another_release_currency_or_secret_key_changes_the_tag(
    usage: None,
    client_with_token: APIClient,
    monkeypatch: pytest.MonkeyPatch,
    settings: LazySettings,
) -> None:
    known = tag(client_with_token)
    with monkeypatch.context() as later:
        later.setattr(responses, "API_RELEASE", responses.API_RELEASE + 1)
        assert status_again(client_with_token, known) == 200
    assert status_again(client_with_token, known) == 304
    settings.USAGE_CURRENCY = "EUR"
    assert status_again(client_with_token, known) == 200
    settings.USAGE_CURRENCY = "USD"
    settings.SECRET_KEY = "another secret key, which signed nothing here"
    assert status_again(client_with_token, known) == 200


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage/totals", "subscription_id=1&live=true"),
        ("usage/totals", "subscription_id=1&max_staleness=0"),
        ("usage/over-limit", "price_limit=0&live=true"),
        ("usage/totals", "external_id=anna"),
        ("usage/records", LISTS["usage/records"]),
        ("subscriptions", ""),
    ],
)
def test_responses_that_may_change_between_refreshes_have_no_tag(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    response = get(client_with_token, path, query)
    assert "ETag" not in response
    assert status_again(client_with_token, "*", path, query) == 200


def test_signing_in_and_faults_come_before_a_known_tag(
    usage: None, client_with_token: APIClient
) -> None:
    assert get(APIClient(), "usage/totals", if_none_match="*").status_code == 401
    assert status_again(client_with_token, "*", query="colour=red") == 400
    stale = get(client_with_token, "usage/totals", "max_staleness=0", if_none_match="*")
    assert stale.status_code == 503
    assert only_error(stale, "server_error")["code"] == "totals_too_old"
    assert faults(client_with_token, "usage/totals", "cursor=x") == [("cursor", "invalid")]


def test_a_deleted_token_is_401_with_a_known_tag(usage: None, client_with_token: APIClient) -> None:
    known = tag(client_with_token)
    AccessToken.objects.all().delete()
    assert status_again(client_with_token, known) == 401


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_no_cache_returns_a_response_to_others(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    responses: list[Any] = [
        get(client_with_token, path, query),
        get(client_with_token, path, "format=csv&" + query),
        get(client_with_token, path, "colour=red"),
        get(APIClient(), path, query),
    ]
    assert [response.status_code for response in responses] == [200, 200, 400, 401]
    for response in responses:
        read(response)
        assert response["Cache-Control"] == "private, no-cache"
        assert response["Vary"] == "Authorization, Cookie, Accept"


def test_head_has_the_tag_of_get(usage: None, client_with_token: APIClient) -> None:
    response = client_with_token.head("/api/v1/usage/totals/")
    assert response["ETag"] == tag(client_with_token)
    assert response.content == b""


@pytest.mark.one_server("no record comes late there")
def test_a_rebuild_without_a_refresh_changes_the_tag(
    sealed_usage: None, client_with_token: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the tag depends on as_of alone, which a rebuild does not change."""
    monkeypatch.setattr(verification, "PATIENCE_SECONDS", 0)
    run_sql(
        "INSERT INTO usage_datausagerecord_default (subscription_id, usage_date, kilobytes_used)"
        " VALUES (1, '2026-11-01 15:00Z', 7)"
    )
    pause()
    query = "subscription_id=1&month=2026-11"
    known = tag(client_with_token, query=query)
    as_of = UsageState.objects.get().as_of
    with pytest.raises(RefreshRunningError):
        verification.rebuild(from_date=date(2026, 11, 1), to_date=date(2026, 11, 1))
    assert UsageState.objects.get().as_of == as_of
    assert status_again(client_with_token, known, query=query) == 200

"""Requests to the API in a test: query strings in, responses out."""

from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.connections import run_sql
from usage.models import UsageState
from usage.services.totals import open_view, periods
from usage.services.totals.changes import Changes

AS_OF = "2026-11-24T12:00:00.000000Z"
LISTS = {
    "usage/over-limit": "price_limit=0",
    "usage/totals": "",
    "usage/daily": "",
    "usage/records": "subscription_id=1&usage_type=data&day=2026-11-01",
    "subscriptions": "",
}


def fill_totals(*, with_periods: bool = True) -> None:
    """Refresh inside the transaction of the test; the totals are as of AS_OF."""
    with connection.cursor() as cursor:
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open")
    Changes()
    periods.fill()
    digest = open_view.fingerprint() if with_periods else None
    UsageState.objects.update_or_create(
        id=1, defaults={"time_zone": "UTC", "as_of": AS_OF, "open_digest": digest}
    )
    run_sql("DROP TABLE usage_total_change, usage_period_before")


def get(client: APIClient, path: str, query: str = "", **headers: str) -> Any:
    """Return the response to an unescaped query string; also the 500 of an unexpected error."""
    client.raise_request_exception = False
    return client.get(f"/api/v1/{path}/", QUERY_STRING=query, headers=headers)


def statements(client: APIClient, url: str, **headers: str) -> list[str]:
    """Return the statements of the second of two equal requests, when they are prepared already.

    The text of a prepared statement replaces its EXECUTE.
    """
    client.raise_request_exception = False
    client.get(url, headers=headers)
    with CaptureQueriesContext(connection) as queries:
        client.get(url, headers=headers)
    prepared = dict(run_sql("SELECT name, statement FROM pg_prepared_statements"))
    return [
        sql.replace(f"EXECUTE {sql.split()[1]}", prepared.get(sql.split()[1], ""))
        for sql in (query["sql"] for query in queries)
    ]


def get_page(client: APIClient, path: str, query: str = "") -> dict[str, Any]:
    """Return the envelope of a response that must be 200."""
    response = get(client, path, query)
    assert response.status_code == 200, response.content
    return response.json()


def results(client: APIClient, path: str, query: str = "") -> list[dict[str, Any]]:
    return get_page(client, path, query)["results"]


def pages(client: APIClient, path: str, query: str) -> list[list[dict[str, Any]]]:
    """Return the results of every page, by following `next`."""
    found = [get_page(client, path, query)]
    while url := found[-1]["next"]:
        response = client.get(url)
        assert response.status_code == 200, response.content
        found.append(response.json())
    return [page["results"] for page in found]


def faults(client: APIClient, path: str, query: str) -> list[tuple[str, str]]:
    """Return the (parameter, code) of every fault of a response that must be 400."""
    response = get(client, path, query)
    assert response.status_code == 400, response.content
    body = response.json()
    assert body["type"] == "validation_error"
    assert all(error["detail"] for error in body["errors"])
    return sorted((error["attr"], error["code"]) for error in body["errors"])


def only_error(response: Any, kind: str) -> dict[str, Any]:
    """Return the only error of a response, which concerns no parameter."""
    body = response.json()
    assert body["type"] == kind
    [error] = body["errors"]
    assert error["attr"] is None
    return error


def cursor_of(found: dict[str, Any]) -> str:
    """Return the cursor in the `next` of an envelope."""
    return parse_qs(urlsplit(found["next"]).query)["cursor"][0]


def moment(envelope: dict[str, Any]) -> datetime:
    """Return the as_of of an envelope."""
    return datetime.fromisoformat(envelope["as_of"])


def database_clock() -> datetime:
    [(now,)] = run_sql("SELECT clock_timestamp()")
    return now

"""A list as CSV: every row in one file, the columns and the text of the JSON results."""

import csv
import re
from collections.abc import Generator, Iterator
from threading import BoundedSemaphore
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import make_subscription
from tests.given import given
from tests.usage.api.api_requests import (
    LISTS,
    cursor_of,
    faults,
    fill_totals,
    get,
    get_page,
    only_error,
    results,
)
from usage.api import csv_responses
from usage.errors import ExportError

HEADERS = {
    "usage/over-limit": "subscription_id,usage_type,total_price,exceeded_by",
    "usage/totals": "subscription_id,usage_type,unit,total_price,total_usage,record_count,"
    "first_day,last_day",
    "usage/daily": "subscription_id,day,usage_type,unit,total_price,total_usage,record_count,"
    "last_usage_at",
    "usage/records": "id,usage_date,price,quantity,unit",
    "subscriptions": "subscription_id,external_id,created_at",
}


@pytest.fixture
def usage(db: None) -> None:
    for number, name in enumerate(["anna", "bob", '=1+1,"x"'], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-11-01T00:00:00Z       0.20       4294967296
        data  anna 2026-11-01T23:59:59.5Z     0.00000001 4294967296
        voice anna 2026-11-30T12:30:00Z       9.00       60
        voice bob  2026-12-01T00:00:00.25Z   -1.50       30
    """)
    fill_totals()


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.content
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return b"".join(response.streaming_content).decode()


def download(client: APIClient, path: str, query: str = "") -> list[str]:
    """Return the lines of a CSV."""
    text = text_of(get(client, path, f"{query}&format=csv".lstrip("&")))
    assert text.endswith("\r\n")
    return text.removesuffix("\r\n").split("\r\n")


def test_over_limit_has_a_line_for_each_type_that_exceeded(
    usage: None, client_with_token: APIClient
) -> None:
    assert download(client_with_token, "usage/over-limit", "price_limit=0.2") == [
        HEADERS["usage/over-limit"],
        "1,data,0.20000001,0.00000001",
        "1,voice,9,8.8",
    ]
    assert download(client_with_token, "usage/over-limit", "price_limit=1") == [
        HEADERS["usage/over-limit"],
        "1,voice,9,8",
    ]


def test_totals(usage: None, client_with_token: APIClient) -> None:
    assert download(client_with_token, "usage/totals", "month=2026-11") == [
        HEADERS["usage/totals"],
        "1,data,kilobytes,0.20000001,8589934592,2,2026-11-01,2026-11-01",
        "1,voice,seconds,9,60,1,2026-11-30,2026-11-30",
    ]


def test_daily_in_the_requested_order(usage: None, client_with_token: APIClient) -> None:
    assert download(client_with_token, "usage/daily", "ordering=total_price") == [
        HEADERS["usage/daily"],
        "2,2026-12-01,voice,seconds,-1.5,30,1,2026-12-01T00:00:00.250000Z",
        "1,2026-11-01,data,kilobytes,0.20000001,8589934592,2,2026-11-01T23:59:59.500000Z",
        "1,2026-11-30,voice,seconds,9,60,1,2026-11-30T12:30:00.000000Z",
    ]


def test_records(usage: None, client_with_token: APIClient) -> None:
    header, *lines = download(client_with_token, "usage/records", LISTS["usage/records"])
    assert header == HEADERS["usage/records"]
    assert [line.split(",", 1)[1] for line in lines] == [
        "2026-11-01T00:00:00.000000Z,0.2,4294967296,kilobytes",
        "2026-11-01T23:59:59.500000Z,0.00000001,4294967296,kilobytes",
    ]


def test_subscriptions_hold_no_formula(usage: None, client_with_token: APIClient) -> None:
    _, _, _, line = download(client_with_token, "subscriptions")
    assert line.startswith('3,"\'=1+1,""x""",2')


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_columns_and_text_are_those_of_json(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    found = results(client_with_token, path, query)
    if path == "usage/over-limit":
        found = [
            {"subscription_id": row["subscription_id"], **each}
            for row in found
            for each in row["exceeded"]
        ]
    for row in found:
        if row.get("external_id", "").startswith("="):
            row["external_id"] = f"'{row['external_id']}"
    assert found
    lines = csv.DictReader(download(client_with_token, path, query))
    assert list(lines) == [{name: str(value) for name, value in row.items()} for row in found]
    assert lines.fieldnames == HEADERS[path].split(",")


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_a_list_without_rows_is_a_header(
    db: None, client_with_token: APIClient, path: str, query: str
) -> None:
    fill_totals()
    assert download(client_with_token, path, query) == [HEADERS[path]]


def test_every_row_is_in_one_response_of_three_statements(
    db: None, client_with_token: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_sql(
        "INSERT INTO usage_subscription (external_id, created_at)"
        " SELECT 's' || number, now() FROM generate_series(1, 2500) AS number"
    )
    fill_totals()
    monkeypatch.setattr(csv_responses, "ROWS_PER_CHUNK", 1000)
    with CaptureQueriesContext(connection) as queries:
        chunks = list(get(client_with_token, "subscriptions", "format=csv").streaming_content)
    assert [chunk.count(b"\r\n") for chunk in chunks] == [1001, 1000, 500]
    lines = b"".join(chunks).decode().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == [f"s{number}" for number in range(1, 2501)]
    commands = [query["sql"].split()[0] for query in queries]
    sent = [command for command in commands if command not in ("PREPARE", "SET")]
    assert sent == ["EXECUTE", "SAVEPOINT", "DECLARE", "RELEASE"]


def test_headers_say_what_the_envelope_says(usage: None, client_with_token: APIClient) -> None:
    response = get(client_with_token, "usage/daily", "month=2026-11&format=csv")
    assert {name: response[name] for name in response.headers if name.startswith("Usage-")} == {
        "Usage-As-Of": "2026-11-24T12:00:00.000000Z",
        "Usage-Live": "false",
        "Usage-Time-Zone": "UTC",
        "Usage-Currency": "USD",
    }
    assert text_of(response)


def test_a_live_response_says_so(sealed_usage: None, client_with_token: APIClient) -> None:
    query = "live=true&subscription_id=1&usage_type=data"
    response = get(client_with_token, "usage/totals", f"{query}&format=csv")
    assert response["Usage-Live"] == "true"
    assert response["Usage-As-Of"] > get_page(client_with_token, "usage/totals")["as_of"]
    assert text_of(response).splitlines()[1] == ("1,data,kilobytes,4.5,45,4,2026-11-01,2026-11-03")


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("usage/over-limit", "price_limit=1", "usage-over-limit.csv"),
        ("usage/totals", "month=2026-11", "usage-totals-from-2026-11-01-to-2026-11-30.csv"),
        ("usage/daily", "from_date=2026-11-01", "usage-daily-from-2026-11-01.csv"),
        ("usage/daily", "to_date=2026-11-01", "usage-daily-to-2026-11-01.csv"),
        (
            "usage/records",
            LISTS["usage/records"],
            "usage-records-from-2026-11-01-to-2026-11-01.csv",
        ),
        ("subscriptions", "", "usage-subscriptions.csv"),
    ],
)
def test_the_file_is_named_for_the_query(
    usage: None, client_with_token: APIClient, path: str, query: str, name: str
) -> None:
    response = get(client_with_token, path, f"{query}&format=csv".lstrip("&"))
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert text_of(response)


@pytest.mark.parametrize(
    ("query", "accept", "media_type"),
    [
        ("", "text/csv", "text/csv; charset=utf-8"),
        ("", "text/csv;header=present, application/json;q=0.9", "text/csv; charset=utf-8"),
        ("", "text/*", "text/csv; charset=utf-8"),
        ("", "application/json, text/csv;q=0.5", "application/json"),
        ("", "application/json; charset=utf-8", "application/json"),
        ("", "text/html, */*;q=0.8", "application/json"),
        ("", "text/csv;q=0, */*", "application/json"),
        ("format=json", "text/csv", "application/json"),
        ("format=csv", "application/json", "text/csv; charset=utf-8"),
        ("format=csv", "text/html", "text/csv; charset=utf-8"),
    ],
)
def test_the_parameter_overrides_the_header(
    usage: None, client_with_token: APIClient, query: str, accept: str, media_type: str
) -> None:
    response = get(client_with_token, "subscriptions", query, accept=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == media_type
    response.close()


def test_only_json_and_csv_are_formats(usage: None, client_with_token: APIClient) -> None:
    [error] = get(client_with_token, "subscriptions", "format=xml").json()["errors"]
    assert error == {
        "code": "invalid",
        "detail": "'xml' is not allowed. Give one of json, csv.",
        "attr": "format",
    }


def test_a_csv_has_no_pages(usage: None, client_with_token: APIClient) -> None:
    cursor = cursor_of(get_page(client_with_token, "usage/totals", "page_size=1"))
    query = f"page_size=1&cursor={cursor}"
    assert faults(client_with_token, "usage/totals", f"{query}&colour=red&format=csv") == [
        ("colour", "unknown"),
        ("cursor", "invalid"),
        ("page_size", "invalid"),
    ]
    response = get(client_with_token, "usage/totals", query, accept="text/csv")
    assert response.status_code == 400
    assert {error["detail"] for error in response.json()["errors"]} == {
        "A CSV holds every row. Leave it out."
    }
    assert get(client_with_token, "usage/totals", f"{query}&format=json").status_code == 200


def test_the_format_of_a_page_is_no_other_query(usage: None, client_with_token: APIClient) -> None:
    cursor = cursor_of(get_page(client_with_token, "usage/totals", "page_size=1&format=json"))
    rest = results(client_with_token, "usage/totals", f"cursor={cursor}")
    assert [row["usage_type"] for row in rest] == ["voice", "voice"]


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_errors_are_json(db: None, client_with_token: APIClient, path: str, query: str) -> None:
    fill_totals()
    for faulty in (f"{query}&colour=red", f"{query}&colour=red&format=csv"):
        response = get(client_with_token, path, faulty.lstrip("&"), accept="text/csv")
        assert response.status_code == 400
        assert response["Content-Type"] == "application/json"
    assert get(APIClient(), path, query, accept="text/csv").status_code == 401


def test_a_day_whose_records_are_dropped_is_410(usage: None, client_with_token: APIClient) -> None:
    run_sql("UPDATE usage_state SET raw_kept_from = '2026-11-02'")
    response = get(client_with_token, "usage/records", f"{LISTS['usage/records']}&format=csv")
    assert response.status_code == 410
    assert only_error(response, "client_error")["code"] == "records_dropped"


def test_a_query_that_takes_too_long_is_503_before_a_line_is_sent(
    state: None, client_with_token: APIClient, settings: LazySettings
) -> None:
    settings.DOWNLOAD_STATEMENT_TIMEOUT_SECONDS = 1
    with second_session() as other:
        ask(other, "REFRESH MATERIALIZED VIEW usage_daily_open")
        response = get(client_with_token, "usage/daily", "format=csv")
    assert response.status_code == 503
    assert only_error(response, "server_error")["code"] == "query_timeout"
    assert run_sql("SHOW statement_timeout") == [("0",)]


@pytest.fixture
def one_slot(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(csv_responses, "_slots", BoundedSemaphore(1))
    yield
    assert csv_responses._slots.acquire(blocking=False), "a slot was not released"


@pytest.mark.usefixtures("one_slot")
def test_downloads_leave_threads_for_pages(usage: None, client_with_token: APIClient) -> None:
    first = get(client_with_token, "usage/totals", "format=csv")
    second = get(client_with_token, "usage/totals", "format=csv")
    assert second.status_code == 503
    assert second["Retry-After"] == "30"
    assert only_error(second, "server_error")["code"] == "too_many_downloads"
    assert get(client_with_token, "usage/totals").status_code == 200
    assert text_of(first)
    assert text_of(get(client_with_token, "usage/totals", "format=csv"))


@pytest.mark.usefixtures("one_slot")
@pytest.mark.parametrize("end", ["unread", "failed"])
def test_a_download_that_ends_early_leaves_nothing_behind(
    state: None, client_with_token: APIClient, end: str, settings: LazySettings
) -> None:
    run_sql(
        "INSERT INTO usage_subscription (external_id, created_at)"
        " SELECT 's' || number, now() FROM generate_series(1, 6000) AS number"
    )
    if end == "failed":
        settings.DOWNLOAD_SECONDS = 0
    response = get(client_with_token, "subscriptions", "format=csv")
    if end == "failed":
        with pytest.raises(ExportError, match="Not every row was read within 0 seconds"):
            list(response.streaming_content)
    response.close()
    assert not connection.in_atomic_block
    assert run_sql("SELECT count(*) FROM pg_cursors") == [(0,)]


def test_closing_a_download_ends_it_at_once() -> None:
    ended = []

    def chunks() -> Generator[bytes]:
        try:
            yield b"a,b"
        finally:
            ended.append(True)

    download = csv_responses.Download(chunks())
    assert not ended
    download.close()
    assert ended


def test_head_reads_no_rows(usage: None, client_with_token: APIClient) -> None:
    with CaptureQueriesContext(connection) as queries:
        response = client_with_token.head("/api/v1/subscriptions/?format=csv")
    assert response["Usage-Time-Zone"] == "UTC"
    assert len(queries) == 1


def test_a_csv_that_accept_excludes_is_406(usage: None, client_with_token: APIClient) -> None:
    response = get(client_with_token, "subscriptions", accept="text/csv;q=0")
    assert response.status_code == 406


def test_a_client_that_could_not_detect_a_broken_file_is_refused(
    usage: None, client_with_token: APIClient
) -> None:
    response = client_with_token.get(
        "/api/v1/subscriptions/?format=csv", SERVER_PROTOCOL="HTTP/1.0"
    )
    assert response.status_code == 400
    assert only_error(response, "client_error")["code"] == "http_version"


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_a_path_of_its_own_has_the_same_file(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    by_format = get(client_with_token, path, f"{query}&format=csv".lstrip("&"))
    expected, kept = text_of(by_format), by_format.headers.get("ETag")
    for accept in ("*/*", "text/csv", "application/json", "image/png", ""):
        response = client_with_token.get(
            f"/api/v1/{path}.csv", QUERY_STRING=query, headers={"Accept": accept}
        )
        assert text_of(response) == expected
        assert response["Content-Disposition"] == by_format["Content-Disposition"]
        assert response.headers.get("ETag") == kept


@pytest.mark.parametrize(("path", "query"), LISTS.items())
def test_a_path_of_its_own_takes_no_page_and_no_format(
    usage: None, client_with_token: APIClient, path: str, query: str
) -> None:
    response = client_with_token.get(
        f"/api/v1/{path}.csv", QUERY_STRING=f"{query}&page_size=100&cursor=x&format=csv&colour=red"
    )
    assert response.status_code == 400
    assert response["Content-Type"] == "application/json"
    errors = response.json()["errors"]
    assert sorted((error["attr"], error["code"]) for error in errors) == [
        ("colour", "unknown"),
        ("cursor", "unknown"),
        ("format", "unknown"),
        ("page_size", "unknown"),
    ]


def test_a_path_of_its_own_is_not_modified_either(
    usage: None, client_with_token: APIClient
) -> None:
    path = "/api/v1/usage/totals.csv"
    first = client_with_token.get(path)
    assert text_of(first)
    again = client_with_token.get(path, headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304


def test_every_moment_has_the_same_form(usage: None, client_with_token: APIClient) -> None:
    """Fails when pandas reads a column as text: it expects one format in the whole column."""
    rows = csv.DictReader(download(client_with_token, "usage/daily"))
    forms = {re.sub("[0-9]", "9", row["last_usage_at"]) for row in rows}
    assert forms == {"9999-99-99T99:99:99.999999Z"}

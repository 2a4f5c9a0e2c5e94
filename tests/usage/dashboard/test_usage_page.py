"""The page of usage by day: of everybody, of one subscription, of the subscriptions of a user."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from tests.connections import run_sql, second_session
from tests.usage.dashboard import pages
from usage.models import UsageState

NOVEMBER = "/?from_date=2026-11-01&to_date=2026-11-30"


@pytest.fixture
def carl(customer: User) -> Client:
    client = Client()
    client.force_login(customer)
    return client


@pytest.mark.usefixtures("usage")
def test_each_day_has_the_sum_of_every_subscription(operator: Client) -> None:
    assert pages.rows(operator, "/", "days") == [
        ["2026-11-03", "Data", "1002.7", "27", "kilobytes", "2", "2"],
        ["2026-11-03", "Voice", "3.35000001", "150", "seconds", "2", "2"],
        ["2026-11-01", "Data", "1.1", "10", "kilobytes", "1", "1"],
    ]


@pytest.mark.usefixtures("usage")
def test_sums_of_the_days_are_those_of_the_api(operator: Client) -> None:
    url = "/api/v1/usage/totals/?from_date=2026-11-01&to_date=2026-11-30"
    found = operator.get(url).json()["results"]
    page = pages.text(operator, NOVEMBER)
    for usage_type, unit in [("data", "kilobytes"), ("voice", "seconds")]:
        of_type = [row for row in found if row["usage_type"] == usage_type]
        price = sum(Decimal(row["total_price"]) for row in of_type)
        usage, records = (
            sum(row[column] for row in of_type) for column in ("total_usage", "record_count")
        )
        card = f"Price {price:,f} USD Usage {usage:,} {unit} Records {records:,}"
        assert f"{usage_type.title()} {card}" in page


@pytest.mark.usefixtures("usage")
def test_a_subscription_and_a_type_narrow_the_days(operator: Client) -> None:
    assert pages.rows(operator, f"{NOVEMBER}&subscription=anna", "days") == [
        ["2026-11-03", "Data", "2.2", "20", "kilobytes", "1", "1"],
        ["2026-11-03", "Voice", "0.05", "60", "seconds", "1", "1"],
        ["2026-11-01", "Data", "1.1", "10", "kilobytes", "1", "1"],
    ]
    assert pages.rows(operator, f"{NOVEMBER}&subscription=anna&usage_type=voice", "days") == [
        ["2026-11-03", "Voice", "0.05", "60", "seconds", "1", "1"],
    ]


@pytest.mark.usefixtures("usage")
def test_customer_sees_the_subscriptions_he_owns(carl: Client) -> None:
    assert pages.rows(carl, NOVEMBER, "days") == [
        ["2026-11-03", "Data", "2.2", "20", "kilobytes", "1", "1"],
        ["2026-11-03", "Voice", "0.05", "60", "seconds", "1", "1"],
        ["2026-11-01", "Data", "1.1", "10", "kilobytes", "1", "1"],
    ]
    others = pages.text(carl, f"{NOVEMBER}&subscription=bob", status=404)
    nobody = pages.text(carl, f"{NOVEMBER}&subscription=nobody", status=404)
    assert "No subscription has this external id." in others
    assert others == nobody


@pytest.mark.usefixtures("usage")
def test_charts_hold_every_digit_and_days_without_usage(operator: Client) -> None:
    drawn = pages.charts(operator, NOVEMBER)
    assert set(drawn) == {"price", "usage-data", "usage-voice"}
    assert drawn["price"]["labels"] == ["1 Nov 2026", "2 Nov 2026", "3 Nov 2026"]
    assert drawn["price"]["series"] == [
        {"label": "Data", "colour": "type-1", "values": ["1.1", "0", "1002.7"]},
        {"label": "Voice", "colour": "type-2", "values": ["0", "0", "3.35000001"]},
    ]
    assert drawn["usage-voice"]["unit"] == "seconds"
    assert drawn["usage-voice"]["series"][0]["values"] == ["0", "0", "150"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("from_date=2026-11-04&to_date=2026-11-03", "This is after 2026-11-03, the last day."),
        ("from_date=2026-08-01&to_date=2026-11-01", "These are 93 days"),
        ("from_date=2026-02-30", "Give a day as YYYY-MM-DD."),
        ("from_date=1999-12-31&to_date=2000-01-01", "The first day is 2000-01-01."),
        ("from_date=&to_date=2026-11-01", "Give the day."),
        ("usage_type=letters", "letters is not one of the available choices."),
        ("subscription=a%00", "Null characters are not allowed."),
        ("from_date=2025-11-01&to_date=2026-11-02&subscription=anna", "These are 367 days"),
    ],
)
@pytest.mark.usefixtures("usage")
def test_invalid_value_is_reported_at_its_field(operator: Client, query: str, message: str) -> None:
    assert message in pages.text(operator, f"/?{query}", status=400)


@pytest.mark.usefixtures("usage")
def test_longest_ranges_are_accepted(operator: Client) -> None:
    everybody = "/?from_date=2026-08-02&to_date=2026-11-01"
    anna = "/?from_date=2025-11-02&to_date=2026-11-02&subscription=anna"
    for url in [everybody, anna]:
        assert [row[0] for row in pages.rows(operator, url, "days")] == ["2026-11-01"]


@pytest.mark.usefixtures("usage")
def test_days_without_usage_say_what_to_do(operator: Client) -> None:
    page = pages.text(operator, "/?from_date=2026-10-01&to_date=2026-10-31")
    assert "No usage in these days Choose other days" in page


def test_page_without_totals_says_how_to_fill_them(operator: Client) -> None:
    UsageState.objects.update(as_of=None)
    page = pages.text(operator, "/")
    assert "The totals were never filled." in page
    assert "There are no totals yet Press “Refresh now”" in page


@pytest.mark.usefixtures("usage")
def test_header_shows_the_age_of_the_totals(operator: Client, settings: Any) -> None:
    settings.USAGE_MAX_AGE_SECONDS = 180
    run_sql("UPDATE usage_state SET as_of = clock_timestamp() - interval '10 seconds'")
    run_sql("INSERT INTO usage_late_key VALUES (1, '2026-10-01', 'data')")
    page = pages.text(operator, "/")
    assert "Fresh As of" in page
    assert "10 s old (at most 180 s); 1 late key waiting." in page
    run_sql("UPDATE usage_state SET as_of = now() - interval '181 seconds'")
    assert "Too old As of" in pages.text(operator, "/")


@pytest.mark.usefixtures("state")
def test_statement_timeout_says_what_to_narrow(operator: Client) -> None:
    with second_session() as session, session.cursor() as cursor:
        cursor.execute("LOCK TABLE usage_daily_sealed IN ACCESS EXCLUSIVE MODE")
        run_sql("SET statement_timeout = '200ms'")
        try:
            page = pages.text(operator, "/", status=503)
        finally:
            session.rollback()
            run_sql("RESET statement_timeout")
    assert "This took too long Go back and choose fewer days" in page


@pytest.mark.usefixtures("state")
def test_page_reconnects_when_the_server_ended_the_connection(operator: Client) -> None:
    with second_session(autocommit=True) as session, session.cursor() as cursor:
        [(process,)] = run_sql("SELECT pg_backend_pid()")
        cursor.execute("SELECT pg_terminate_backend(%s)", [process])
    assert pages.text(operator, "/")
    assert connection.is_usable()


@pytest.mark.parametrize("url", ["/", "/over-limit/", "/refreshes/"])
@pytest.mark.django_db
def test_signed_out_user_is_redirected_to_the_login(client: Client, url: str) -> None:
    response = client.get(f"{url}?from_date={date(2026, 11, 1)}")
    assert response.status_code == 302
    assert response.headers["Location"] == f"/login/?next={url}%3Ffrom_date%3D2026-11-01"


@pytest.mark.usefixtures("usage")
def test_browser_does_not_cache_a_page(operator: Client) -> None:
    header = operator.get("/").headers["Cache-Control"]
    assert {"no-store", "private"} <= set(header.split(", "))


@pytest.mark.usefixtures("usage")
def test_a_type_of_another_release_is_a_row_with_its_code(operator: Client) -> None:
    """Fails with status 500 when the release before a type reads a database that has it."""
    run_sql(
        "INSERT INTO usage_daily_sealed (subscription_id, day, usage_type, total_price,"
        " total_usage, record_count, last_usage_at)"
        " VALUES (1, '2026-11-02', 'sms', 1, 2, 3, '2026-11-02T10:00Z')"
    )
    assert pages.rows(operator, "/?from_date=2026-11-02&to_date=2026-11-02", "days") == [
        ["2026-11-02", "sms", "1", "2", "", "3", "1"]
    ]

"""live=true and max_staleness: how young an answer is, and that it says so."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from tests.connections import ask, run_sql, second_session
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from tests.usage.api.asking import LISTS, answer, faults, get, pages, results
from tests.usage.api.test_errors import only_error
from tests.usage.api.test_pagination import cursor_of
from usage.models import DataUsageRecord, LateKey, Subscription, UsageState
from usage.services import clock
from usage.services.retention import prune

INSERT = (
    "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
    " VALUES (1, '2026-11-03T20:00:00Z', 100, 1000)"
)


@pytest.fixture
def clock_at(
    state: None, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> Callable[[str], None]:
    """Says which day is today; days before yesterday are sealed, raw records kept for 35 days."""
    settings.USAGE_OPEN_DAYS = 2
    settings.USAGE_RAW_RETENTION_DAYS = 35

    def move(day: str) -> None:
        monkeypatch.setattr(clock, "today", lambda: date.fromisoformat(day))

    return move


@pytest.fixture
def usage(clock_at: Callable[[str], None]) -> None:
    """Totals refreshed on 2026-11-04 with the days before 2026-11-03 sealed; since then came
    anna's (1) records of a sealed, an open and a future day, and bob's (2) only one was deleted."""
    anna, bob = make_subscription("anna", id=1), make_subscription("bob", id=2)
    data_record(anna, "2026-11-01T12:00:00Z", price="1.00", kilobytes=10)
    voice_record(anna, "2026-11-01T12:00:00Z", price="7.00", seconds=60)
    data_record(anna, "2026-11-03T12:00:00Z", price="1.00", kilobytes=10)
    wrong = data_record(bob, "2026-11-02T12:00:00Z", price="5.00", kilobytes=50)
    clock_at("2026-11-04")
    refresh_and_seal()
    data_record(anna, "2026-11-01T13:00:00Z", price="2.00", kilobytes=20)
    data_record(anna, "2026-11-03T13:00:00Z", price="0.50", kilobytes=5)
    voice_record(anna, "2026-12-24T18:00:00Z", price="4.00", seconds=30)
    wrong.delete()
    assert LateKey.objects.count() == 2


def moment(answered: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(answered["as_of"])


def database_clock() -> datetime:
    [(now,)] = run_sql("SELECT clock_timestamp()")
    return now


def age_totals(seconds: int) -> None:
    run_sql("UPDATE usage_state SET as_of = clock_timestamp() - %s * interval '1 s'", [seconds])


def test_live_totals_are_those_of_the_raw_records(
    usage: None, client_with_token: APIClient
) -> None:
    before = database_clock()
    found = answer(client_with_token, "usage/totals", "live=true&subscription_id=1,2")
    assert found["live"] is True
    assert before < moment(found) < database_clock()
    assert found["results"] == [
        {
            "subscription_id": 1,
            "usage_type": "data",
            "unit": "kilobytes",
            "total_price": "4.50",
            "total_usage": 45,
            "record_count": 4,
            "first_day": "2026-11-01",
            "last_day": "2026-11-03",
        },
        {
            "subscription_id": 1,
            "usage_type": "voice",
            "unit": "seconds",
            "total_price": "11.00",
            "total_usage": 90,
            "record_count": 2,
            "first_day": "2026-11-01",
            "last_day": "2026-12-24",
        },
    ]


@pytest.mark.parametrize("live", ["", "live=false&"])
def test_an_answer_from_the_totals_says_so(
    usage: None, client_with_token: APIClient, live: str
) -> None:
    found = answer(client_with_token, "usage/totals", f"{live}subscription_id=1,2")
    assert list(found)[:2] == ["as_of", "live"]
    assert found["live"] is False
    assert moment(found) == UsageState.objects.get().as_of
    assert [
        (row["subscription_id"], row["usage_type"], row["total_price"]) for row in found["results"]
    ] == [(1, "data", "2.00"), (1, "voice", "7.00"), (2, "data", "5.00")]


@pytest.mark.parametrize(
    "who", ["subscription_id=1,2", "external_id=bob,anna", "subscription_id=1&external_id=anna,bob"]
)
def test_live_days_narrow_by_every_parameter(
    usage: None, client_with_token: APIClient, who: str
) -> None:
    def days(query: str) -> list[str]:
        found = results(client_with_token, "usage/daily", f"live=true&{who}&{query}")
        return [f"{row['day'][5:]} {row['usage_type']} {row['total_price']}" for row in found]

    assert days("") == [
        "11-01 data 3.00",
        "11-01 voice 7.00",
        "11-03 data 1.50",
        "12-24 voice 4.00",
    ]
    assert days("from_date=2026-11-02") == ["11-03 data 1.50", "12-24 voice 4.00"]
    assert days("to_date=2026-11-03") == ["11-01 data 3.00", "11-01 voice 7.00", "11-03 data 1.50"]
    assert days("to_date=2026-11-02") == ["11-01 data 3.00", "11-01 voice 7.00"]
    assert days("month=2026-12") == ["12-24 voice 4.00"]
    assert days("usage_type=data&ordering=-day") == ["11-03 data 1.50", "11-01 data 3.00"]
    assert days("ordering=total_price&page_size=2") == ["11-03 data 1.50", "11-01 data 3.00"]


def test_a_live_subscription_must_be_in_both_lists(
    usage: None, client_with_token: APIClient
) -> None:
    query = "live=true&subscription_id=1&external_id=bob"
    assert results(client_with_token, "usage/totals", query) == []


def test_live_over_limit_of_everybody_and_of_named_ones(
    usage: None, client_with_token: APIClient
) -> None:
    anna = {
        "subscription_id": 1,
        "exceeded": [
            {"usage_type": "data", "total_price": "4.50", "exceeded_by": "0.00"},
            {"usage_type": "voice", "total_price": "11.00", "exceeded_by": "6.50"},
        ],
    }
    for who in ("", "&subscription_id=1,2", "&external_id=anna"):
        found = answer(client_with_token, "usage/over-limit", f"live=true&price_limit=4.50{who}")
        assert (found["live"], found["results"]) == (True, [anna])
    assert results(
        client_with_token, "usage/over-limit", "live=true&price_limit=4.51&month=2026-11"
    )[0]["exceeded"] == [{"usage_type": "voice", "total_price": "7.00", "exceeded_by": "2.49"}]


@pytest.mark.parametrize("path", ["usage/totals", "usage/daily"])
def test_live_lists_of_everybody_are_refused(
    usage: None, client_with_token: APIClient, path: str
) -> None:
    assert faults(client_with_token, path, "live=true&month=2026-11") == [("live", "required")]
    assert faults(client_with_token, path, "live=true&subscription_id=0") == [
        ("subscription_id", "invalid")
    ]


@pytest.mark.parametrize("value", ["True", "TRUE", "1", "yes", "on", "t", "true,false", "null"])
def test_live_is_true_or_false(db: None, client_with_token: APIClient, value: str) -> None:
    query = f"subscription_id=1&live={value}"
    assert faults(client_with_token, "usage/daily", query) == [("live", "invalid")]


def test_live_is_no_parameter_of_lists_that_always_are(
    db: None, client_with_token: APIClient
) -> None:
    for path in ("usage/records", "subscriptions"):
        query = f"{LISTS[path]}&live=true"
        assert faults(client_with_token, path, query) == [("live", "unknown")]


def test_what_another_session_has_not_committed_is_not_shown(
    usage: None, client_with_token: APIClient
) -> None:
    def price() -> str:
        query = "live=true&subscription_id=1&usage_type=data"
        return results(client_with_token, "usage/totals", query)[0]["total_price"]

    with second_session() as other:
        ask(other, INSERT)
        assert price() == "4.50"
        other.commit()
        assert price() == "104.50"


def test_as_of_of_a_live_answer_is_before_its_snapshot(
    usage: None, client_with_token: APIClient
) -> None:
    """Guards against reading the clock after the totals: a record committed between the two would
    be missing from an answer that claims to have it."""
    committed: list[datetime] = []

    def commit_behind(execute: Any, statement: str, *arguments: Any) -> Any:
        answered = execute(statement, *arguments)
        if "usage_daily_live_of" in statement:
            with second_session(autocommit=True) as other:
                committed.append(ask(other, "SELECT clock_timestamp()")[0][0])
                ask(other, INSERT)
        return answered

    with connection.execute_wrapper(commit_behind):
        found = answer(client_with_token, "usage/totals", "live=true&subscription_id=1")
    assert found["results"][0]["total_price"] == "4.50"
    assert len(committed) == 1
    assert moment(found) < committed[0]


def test_live_pages_give_every_row_once(usage: None, client_with_token: APIClient) -> None:
    for path, order in [
        ("usage/daily", ""),
        ("usage/daily", "&ordering=-total_price"),
        ("usage/totals", ""),
    ]:
        whole = results(client_with_token, path, f"live=true&external_id=anna,bob{order}")
        found = pages(client_with_token, path, f"live=true&external_id=anna,bob{order}&page_size=1")
        assert [len(page) for page in found] == [1] * len(whole)
        assert list(chain(*found)) == whole


def test_a_cursor_is_of_a_live_query_or_of_another(
    usage: None, client_with_token: APIClient
) -> None:
    query = "subscription_id=1&page_size=1"
    live = cursor_of(answer(client_with_token, "usage/totals", f"{query}&live=true"))
    plain = cursor_of(answer(client_with_token, "usage/totals", query))
    assert faults(client_with_token, "usage/totals", f"{query}&cursor={live}") == [
        ("cursor", "other_query")
    ]
    assert faults(client_with_token, "usage/totals", f"{query}&live=true&cursor={plain}") == [
        ("cursor", "other_query")
    ]
    for manner in ("live=false", "max_staleness=604800"):
        found = answer(client_with_token, "usage/totals", f"{query}&{manner}&cursor={plain}")
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
def test_an_answer_of_any_age_takes_three_queries(
    usage: None, client_with_token: APIClient, path: str, query: str, relation: str
) -> None:
    with CaptureQueriesContext(connection) as queries:
        answer(client_with_token, path, query)
    token, state, rows = (query["sql"] for query in queries)
    assert "authtoken_token" in token
    assert "usage_state" in state
    assert f" FROM {relation}" in rows


def test_totals_that_are_young_enough_are_used(usage: None, client_with_token: APIClient) -> None:
    age_totals(100)
    for query in ("max_staleness=200", "max_staleness=200&subscription_id=1"):
        found = answer(client_with_token, "usage/totals", query)
        assert found["live"] is False
        assert moment(found) == UsageState.objects.get().as_of
        assert found["results"][0]["total_price"] == "2.00"


def test_older_totals_are_replaced_by_a_live_answer_of_named_subscriptions(
    usage: None, client_with_token: APIClient
) -> None:
    age_totals(100)
    for path, query in LISTS.items():
        for who in ("subscription_id=1", "external_id=anna"):
            if path == "usage/records":
                continue
            found = answer(client_with_token, path, f"{query}&max_staleness=99&{who}")
            assert found["live"] is True
            assert database_clock() - moment(found) < timedelta(seconds=50)
    [row, _] = results(client_with_token, "usage/totals", "max_staleness=99&subscription_id=1")
    assert row["total_price"] == "4.50"


@pytest.mark.parametrize("path", ["usage/totals", "usage/daily", "usage/over-limit"])
def test_older_totals_of_everybody_are_503_and_say_how_old_they_are(
    usage: None, client_with_token: APIClient, settings: LazySettings, path: str
) -> None:
    settings.USAGE_REFRESH_SECONDS = 77
    age_totals(1000)
    with CaptureQueriesContext(connection) as queries:
        response = get(client_with_token, path, f"{LISTS[path]}&max_staleness=900")
    assert len(queries) == 2
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


def test_live_is_never_too_old(usage: None, client_with_token: APIClient) -> None:
    age_totals(1000)
    query = "live=true&max_staleness=0&price_limit=0"
    assert answer(client_with_token, "usage/over-limit", query)["live"] is True


def test_age_is_by_the_clock_of_the_database(
    usage: None, client_with_token: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    age_totals(100)
    for off in (timedelta(days=-1), timedelta(days=1)):
        wrong = datetime.now(UTC) + off
        monkeypatch.setattr(timezone, "now", lambda wrong=wrong: wrong)
        assert answer(client_with_token, "usage/totals", "max_staleness=200")["live"] is False
        assert get(client_with_token, "usage/totals", "max_staleness=50").status_code == 503


@pytest.mark.parametrize("value", ["-1", "604801", "1.5", "1e2", "ten", "%2B5", "%D9%A3"])
@pytest.mark.parametrize("path", LISTS)
def test_max_staleness_is_whole_seconds_up_to_a_week(
    db: None, client_with_token: APIClient, path: str, value: str
) -> None:
    query = f"{LISTS[path]}&max_staleness={value}"
    assert faults(client_with_token, path, query) == [("max_staleness", "invalid")]


def test_lists_that_are_read_directly_are_as_of_now(
    usage: None, client_with_token: APIClient
) -> None:
    """Whatever the age of the totals."""
    age_totals(100_000)
    data_record(Subscription.objects.get(id=2), "2026-11-02T14:00:00Z", price="3", kilobytes=30)
    for path in ("usage/records", "subscriptions"):
        query = "subscription_id=2&usage_type=data&day=2026-11-02" if "records" in path else ""
        before = database_clock()
        found = answer(client_with_token, path, f"{query}&max_staleness=0")
        assert found["live"] is True
        assert before < moment(found) < database_clock()
    query = "subscription_id=2&usage_type=data&day=2026-11-02"
    assert [row["price"] for row in results(client_with_token, "usage/records", query)] == ["3"]


def test_records_of_a_day_that_retention_closed_are_410(
    usage: None, client_with_token: APIClient, clock_at: Callable[[str], None]
) -> None:
    clock_at("2026-12-07")
    refresh_and_seal()
    assert prune().first_kept_day == date(2026, 11, 3)
    query = "subscription_id=1&usage_type=data&day="
    with CaptureQueriesContext(connection) as queries:
        response = get(client_with_token, "usage/records", f"{query}2026-11-02")
    assert len(queries) == 2
    assert response.status_code == 410
    assert only_error(response, "client_error") == {
        "code": "records_dropped",
        "detail": "The raw records of 2026-11-02 are dropped: 2026-11-03 is the first day whose "
        "records are kept. The daily total of the day stays.",
        "attr": None,
    }
    kept = results(client_with_token, "usage/records", f"{query}2026-11-03")
    assert [record["price"] for record in kept] == ["1.00", "0.50"]
    assert not DataUsageRecord.objects.filter(usage_date__lt="2026-11-03T00:00:00Z").exists()
    for live in ("true", "false"):
        [data, _] = results(client_with_token, "usage/totals", f"subscription_id=1&live={live}")
        assert (data["total_price"], data["first_day"]) == ("4.50", "2026-11-01")

"""Sums larger than a bigint are named. Records of earlier releases can cause them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError
from rest_framework.test import APIClient

from tests.connections import run_sql
from tests.factories import (
    data_record,
    make_subscription,
    refresh_and_seal,
    refresh_totals,
    voice_record,
)
from tests.replaced_queries import replace_query
from tests.usage.api.api_requests import get, get_page, only_error
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, RefreshRun, VoiceUsageRecord
from usage.services.totals import overflow
from usage.services.totals.refresh import refresh

pytestmark = [
    pytest.mark.usefixtures("state"),
    pytest.mark.one_server("it checks constraints on every shard"),
]

TABLES = [("usage_datausagerecord", "kilobytes_used"), ("usage_voiceusagerecord", "seconds_used")]
INSERT = (
    "INSERT INTO {table} (subscription_id, usage_date, {quantity})"
    " SELECT %s, %s::timestamptz + n * interval '1 second', 1::bigint << 62"
    " FROM generate_series(1, %s) AS n"
)


@pytest.fixture
def earlier_release() -> Iterator[None]:
    """Remove the limits of quantities from the raw tables: a few huge records then replace millions
    of records of 2^40."""
    for table, quantity in TABLES:
        run_sql(f"ALTER TABLE {table} DROP CONSTRAINT usage_quantity_bound")
        run_sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{quantity}_check")
    yield
    run_sql("TRUNCATE usage_datausagerecord, usage_voiceusagerecord")
    for table, quantity in TABLES:
        run_sql(
            f"ALTER TABLE {table}"
            f" ADD CONSTRAINT {table}_{quantity}_check"
            f" CHECK ({quantity} BETWEEN 0 AND 1::bigint << 40),"
            f" ADD CONSTRAINT usage_quantity_bound CHECK ({quantity} <= 1::bigint << 32) NOT VALID"
        )


def huge(subscription_id: int, at: str, count: int, usage_type: int = 0) -> None:
    table, quantity = TABLES[usage_type]
    run_sql(INSERT.format(table=table, quantity=quantity), [subscription_id, at, count])


def failure() -> str:
    with pytest.raises(RefreshFailedError):
        refresh(trigger=RefreshRun.Trigger.COMMAND)
    return RefreshRun.objects.latest("pk").error


@pytest.mark.parametrize("record", [data_record, voice_record])
def test_a_record_has_at_most_two_to_the_32(record: Callable[..., Any]) -> None:
    subscription = make_subscription()
    kept = record(subscription, "2026-11-01T10:00:00Z", "1", 2**32)
    kept.full_clean()
    with pytest.raises(IntegrityError, match="usage_quantity_bound"):
        record(subscription, "2026-11-01T11:00:00Z", "1", 2**32 + 1)


@pytest.mark.parametrize(
    ("model", "quantity"),
    [(DataUsageRecord, "kilobytes_used"), (VoiceUsageRecord, "seconds_used")],
)
@pytest.mark.parametrize("value", [-1, 2**32 + 1])
def test_a_model_names_a_quantity_out_of_bounds(model: type, quantity: str, value: int) -> None:
    record = model(
        subscription=make_subscription(), usage_date="2026-11-01T10:00:00Z", **{quantity: value}
    )
    with pytest.raises(ValidationError) as error:
        record.full_clean()
    assert list(error.value.error_dict) == [quantity]


def test_records_of_an_earlier_release_stay_and_are_added(earlier_release: None) -> None:
    make_subscription(id=7)
    huge(7, "2026-11-15T10:00:00Z", 1)
    run_sql(
        "ALTER TABLE usage_datausagerecord"
        " ADD CONSTRAINT usage_quantity_bound CHECK (kilobytes_used <= 1::bigint << 32) NOT VALID"
    )
    try:
        refresh_totals()
        assert run_sql("SELECT total_usage FROM usage_daily") == [(2**62,)]
    finally:
        run_sql("ALTER TABLE usage_datausagerecord DROP CONSTRAINT usage_quantity_bound")


def test_a_refresh_names_what_it_cannot_add_up(earlier_release: None) -> None:
    make_subscription(id=7)
    make_subscription(id=8)
    huge(7, "2026-11-15T10:00:00Z", 2)
    huge(8, "2026-11-14T10:00:00Z", 3, usage_type=1)
    huge(8, "2026-11-15T10:00:00Z", 1)
    assert failure() == (
        "Usage adds up to more than 2^63 - 1: voice of subscription 8 on 2026-11-14; data of "
        "subscription 7 on 2026-11-15. Correct or delete the records there that are above "
        "4294967296 kilobytes or seconds, then run: manage.py refresh_usage"
    )
    run_sql("DELETE FROM usage_datausagerecord WHERE subscription_id = 7")
    run_sql("DELETE FROM usage_voiceusagerecord")
    refresh_totals()


def test_a_refresh_names_the_months_that_it_cannot_add_up(earlier_release: None) -> None:
    make_subscription(id=7)
    huge(7, "2026-11-15T10:00:00Z", 1)
    refresh_totals()
    huge(7, "2026-10-16T10:00:00Z", 1)
    assert "2^63 - 1: data of subscription 7 on all days together. Correct" in failure()
    run_sql(
        "UPDATE usage_datausagerecord SET usage_date = '2026-11-16' WHERE usage_date < '2026-11-01'"
    )
    assert (
        "2^63 - 1: data of subscription 7 in 2026-11; data of subscription 7 on all days together."
        in failure()
    )


def test_a_sealed_key_is_named(earlier_release: None, set_today: Callable[[str], None]) -> None:
    set_today("2026-11-20")
    make_subscription(id=7)
    huge(7, "2026-11-15T10:00:00Z", 1)
    refresh_and_seal()
    huge(7, "2026-11-15T11:00:00Z", 1)
    assert "data of subscription 7 on 2026-11-15" in failure()
    for command in ["verify_usage", "rebuild_usage --from 2026-11-15 --to 2026-11-15"]:
        with pytest.raises(CommandError, match="data of subscription 7 on 2026-11-15"):
            call_command(*command.split())


def test_a_search_that_takes_too_long_says_so(
    earlier_release: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_subscription(id=7)
    huge(7, "2026-11-15T10:00:00Z", 2)
    replace_query(monkeypatch, "large_days", lambda _: "SELECT pg_sleep(20)")
    monkeypatch.setattr(overflow.explain, "__kwdefaults__", {"seconds": 1})
    assert "The search for its subscription failed: canceling statement" in failure()


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("usage/totals", "live=true&subscription_id=7"),
        ("usage/daily", "live=true&subscription_id=7,8"),
        ("usage/daily", "live=true&external_id=anna&format=csv"),
        ("usage/over-limit", "live=true&price_limit=0"),
    ],
)
def test_a_live_response_names_what_it_cannot_add_up(
    earlier_release: None, client_with_token: APIClient, path: str, query: str
) -> None:
    make_subscription("anna", id=7)
    make_subscription("bob", id=8)
    refresh_totals()
    huge(7, "2026-11-15T10:00:00Z", 2)
    response = get(client_with_token, path, query)
    assert response.status_code == 409
    error = only_error(response, "client_error")
    assert error["code"] == "sum_too_large"
    assert "data of subscription 7 on 2026-11-15" in error["detail"]
    assert (
        get_page(client_with_token, "usage/totals", "live=true&subscription_id=8")["results"] == []
    )

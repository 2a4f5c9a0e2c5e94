"""Selectors of totals, without HTTP: they return Decimals, and None for no usage."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from tests.factories import make_subscription
from tests.given import given
from usage import selectors
from usage.errors import RecordsDroppedError, StaleTotalsError, TotalsNotFilledError
from usage.models import DailyUsage, Subscription, UsageState, UsageType


@pytest.fixture
def usage(db: None) -> None:
    for number, name in enumerate(["anna", "bob"], start=1):
        make_subscription(name, id=number)
    given("""
        data  anna 2026-11-01T10:00:00Z 1.10 10
        data  anna 2026-11-02T10:00:00Z 2.20 20
        voice anna 2026-11-02T11:00:00Z 0.05 60
        voice bob  2026-11-03T10:00:00Z 3.30 90
    """)
    with connection.cursor() as cursor:
        cursor.execute("REFRESH MATERIALIZED VIEW usage_daily_open")


def test_type_totals_add_up_the_requested_days(usage: None) -> None:
    daily = DailyUsage.objects.filter(day__lte=date(2026, 11, 2))
    rows = selectors.type_totals(daily=daily).order_by("subscription_id", "usage_type")
    assert list(rows) == [
        {
            "subscription_id": 1,
            "usage_type": "data",
            "price": Decimal("3.30"),
            "usage": 30,
            "records": 2,
            "first_day": date(2026, 11, 1),
            "last_day": date(2026, 11, 2),
        },
        {
            "subscription_id": 1,
            "usage_type": "voice",
            "price": Decimal("0.05"),
            "usage": 60,
            "records": 1,
            "first_day": date(2026, 11, 2),
            "last_day": date(2026, 11, 2),
        },
    ]


def test_over_limit_returns_one_row_a_subscription_with_every_type(usage: None) -> None:
    rows = selectors.over_limit(daily=DailyUsage.objects.all(), price_limit=Decimal("3.3"))
    assert list(rows.order_by("subscription_id")) == [
        {
            "subscription_id": 1,
            "data_price": Decimal("3.30"),
            "voice_price": Decimal("0.05"),
            "rank": Decimal("-3.30"),
        },
        {
            "subscription_id": 2,
            "data_price": None,
            "voice_price": Decimal("3.30"),
            "rank": Decimal("-3.30"),
        },
    ]


def test_totals_by_subscription_agree_with_the_daily_rows(usage: None) -> None:
    days = selectors.daily_rows(daily=DailyUsage.objects.all())
    types = selectors.type_totals(daily=DailyUsage.objects.all())
    assert sum(row["total_price"] for row in days) == sum(row["price"] for row in types)
    assert sum(row["record_count"] for row in days) == sum(row["records"] for row in types) == 4


def test_day_records_are_those_behind_the_daily_total(usage: None) -> None:
    [row] = selectors.day_records(
        subscription_id=1, usage_type=UsageType.VOICE, day=date(2026, 11, 2)
    )
    assert row["usage_date"] == datetime(2026, 11, 2, 11, tzinfo=UTC)
    assert (row["price"], row["quantity"]) == (Decimal("0.05"), 60)


def test_subscription_rows_name_the_id_as_the_totals_do(usage: None) -> None:
    rows = selectors.subscription_rows(subscriptions=Subscription.objects.filter(id=2))
    assert [(row["subscription_id"], row["external_id"]) for row in rows] == [(2, "bob")]


@pytest.mark.parametrize("state", ["missing", "unfilled"])
def test_totals_that_were_never_filled_name_the_command(db: None, state: str) -> None:
    UsageState.objects.all().delete()
    if state == "unfilled":
        UsageState.objects.create(time_zone="UTC", as_of=None)
    with pytest.raises(TotalsNotFilledError, match="refresh_usage"):
        selectors.totals_state()


def test_totals_exactly_as_old_as_allowed_are_young_enough() -> None:
    read_at = datetime(2026, 11, 4, 12, tzinfo=UTC)

    def is_live(age: timedelta, *, is_named: bool = True, live: bool = False) -> bool:
        return selectors.is_answered_live(
            state=selectors.TotalsState(
                read_at - age, read_at, "UTC", None, periods_filled=True, version="1"
            ),
            live=live,
            max_staleness=60,
            is_named=is_named,
        )

    minute, moment = timedelta(minutes=1), timedelta(microseconds=1)
    assert not is_live(minute)
    assert not is_live(-minute)
    assert is_live(minute + moment)
    assert is_live(minute, live=True)
    assert not is_live(minute, is_named=False)
    assert is_live(minute + moment, is_named=False, live=True)
    with pytest.raises(StaleTotalsError, match="are 61 seconds old, max_staleness is 60"):
        is_live(minute + moment, is_named=False)


def test_totals_of_any_age_serve_a_query_without_max_staleness() -> None:
    state = selectors.TotalsState(
        as_of=datetime(2000, 1, 1, tzinfo=UTC),
        read_at=datetime(2026, 11, 4, tzinfo=UTC),
        time_zone="UTC",
        raw_kept_from=None,
        periods_filled=True,
        version="1",
    )
    for live in (False, True):
        assert live is selectors.is_answered_live(
            state=state, live=live, max_staleness=None, is_named=False
        )


def test_records_before_the_first_kept_day_are_gone() -> None:
    first, second = date(2026, 11, 1), date(2026, 11, 2)
    selectors.refuse_dropped_day(day=first, kept_from=None)
    selectors.refuse_dropped_day(day=second, kept_from=second)
    with pytest.raises(RecordsDroppedError, match="of 2026-11-01 are dropped: 2026-11-02 is the"):
        selectors.refuse_dropped_day(day=first, kept_from=second)

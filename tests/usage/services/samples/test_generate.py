"""Sample usage: number, moments and subscriptions of records, and the same for equal arguments."""

from datetime import date, timedelta
from typing import Any

import pytest

from tests.connections import run_sql
from tests.factories import make_subscription
from usage.models import DataUsageRecord, Subscription, VoiceUsageRecord
from usage.services.raw import clock
from usage.services.raw.partitions import partition_days
from usage.services.samples import generator
from usage.services.samples.generator import GenerateArgumentError, generate_usage

pytestmark = pytest.mark.usefixtures("only_default_partitions")

RAW = (
    "(SELECT 'data' AS usage_type, subscription_id, usage_date, price, kilobytes_used AS quantity,"
    " id FROM usage_datausagerecord UNION ALL"
    " SELECT 'voice', subscription_id, usage_date, price, seconds_used, id"
    " FROM usage_voiceusagerecord) AS records"
)


def fingerprint() -> Any:
    """Return the count and a hash of all records."""
    return run_sql(f"SELECT count(*), sum(hashtext(records::text)::numeric) FROM {RAW}")


def generate_some(**arguments: Any) -> generator.GenerateReport:
    return generate_usage(
        **{
            "subscriptions": 20,
            "days": 7,
            "records": 10_000,
            "until": date(2026, 11, 9),
            **arguments,
        }
    )


def test_the_number_of_records_and_days_is_exact() -> None:
    report = generate_some()
    assert (report.added, report.already_known) == (10_000, 0)
    assert (report.first_day, report.last_day) == (date(2026, 11, 2), date(2026, 11, 8))
    assert DataUsageRecord.objects.count() == 6_000
    assert VoiceUsageRecord.objects.count() == 4_000
    assert Subscription.objects.count() == 20
    assert set(Subscription.objects.values_list("external_id", flat=True)) == {
        f"sub-{number:06}" for number in range(1, 21)
    }
    assert run_sql(f"SELECT min(usage_day(usage_date)), max(usage_day(usage_date)) FROM {RAW}") == [
        (date(2026, 11, 2), date(2026, 11, 8))
    ]


@pytest.mark.one_server("it counts records already known as added")
def test_the_same_arguments_make_the_same_records() -> None:
    generate_some()
    first = fingerprint()
    report = generate_some()
    assert (report.added, report.already_known) == (0, 10_000)
    assert fingerprint() == first
    run_sql("TRUNCATE usage_datausagerecord, usage_voiceusagerecord")
    generate_some()
    assert fingerprint() == first


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"records": 9_999}, {"subscriptions": 21}, {"days": 6}]
)
def test_other_arguments_make_other_records(other: dict[str, int]) -> None:
    generate_some()
    report = generate_some(**other)
    assert report.already_known == 0
    assert report.added == other.get("records", 10_000)


def test_usage_is_distributed_as_in_real_life() -> None:
    generate_some(subscriptions=100, records=40_000, days=14)
    ((most, total, users),) = run_sql(
        "SELECT sum(records) FILTER (WHERE rank <= 10), sum(records), count(*) FROM (SELECT"
        f" count(*) AS records, rank() OVER (ORDER BY count(*) DESC) AS rank FROM {RAW}"
        " GROUP BY subscription_id) AS users"
    )
    assert users == 100
    assert 0.4 < most / total < 0.6  # a tenth of the subscriptions has half of the records
    hours = dict(
        run_sql(f"SELECT extract(HOUR FROM usage_date)::int, count(*) FROM {RAW} GROUP BY 1")
    )
    assert hours[20] > 8 * hours[3]
    ((weekend, workdays),) = run_sql(
        "SELECT count(*) FILTER (WHERE extract(ISODOW FROM usage_date) >= 6),"
        f" count(*) FILTER (WHERE extract(ISODOW FROM usage_date) < 6) FROM {RAW}"
    )
    assert 0.5 < (weekend / 2) / (workdays / 5) < 0.9


def test_prices_are_positive_zero_and_negative() -> None:
    generate_some()
    ((credits, free, most_decimals, largest),) = run_sql(
        "SELECT count(*) FILTER (WHERE price < 0),"
        " count(*) FILTER (WHERE price = 0 AND quantity > 0),"
        f" max(scale(price)), max(abs(price)) FROM {RAW}"
    )
    assert 20 < credits < 90
    assert 100 < free < 300
    assert most_decimals == 8
    assert largest < 10


def test_no_record_is_in_the_future() -> None:
    generate_usage(subscriptions=1, days=1, records=100)
    assert run_sql(f"SELECT max(usage_date) < now() FROM {RAW}") == [(True,)]
    assert run_sql(f"SELECT DISTINCT usage_day(usage_date) FROM {RAW}") == [
        (clock.today() - timedelta(days=1),)
    ]


def test_days_get_partitions_and_known_subscriptions_are_used() -> None:
    known = make_subscription("sub-000002")
    generate_some(subscriptions=2, days=2)
    assert partition_days("usage_voiceusagerecord") == [date(2026, 11, 7), date(2026, 11, 8)]
    assert DataUsageRecord.objects.filter(subscription=known).exists()
    assert Subscription.objects.count() == 2


def test_progress_is_reported_after_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "STEP_RECORDS", 1_000)
    steps: list[int] = []
    generate_some(on_progress=steps.append)
    assert sum(steps) == 10_000
    assert max(steps) == 1_000
    assert len(steps) == 14


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"subscriptions": 0}, "--subscriptions must be from 1 to 1,000,000, not 0."),
        ({"subscriptions": 1_000_001}, "--subscriptions must be from 1 to 1,000,000, not 1,000,0"),
        ({"days": 0}, "--days must be from 1 to 3,660, not 0."),
        ({"days": 3_661}, "--days must be from 1 to 3,660, not 3,661."),
        ({"records": -1}, "--records must be from 1 to 1,000,000,000, not -1."),
        ({"records": 10**9 + 1}, "--records must be from 1 to 1,000,000,000, not 1,000,000,001."),
        (
            {"until": date(2000, 1, 3), "days": 2},
            "--until 2000-01-03 --days 2: the 2 days before 2000-01-03 must lie between ",
        ),
    ],
)
def test_arguments_out_of_bounds_are_named(arguments: dict[str, Any], error: str) -> None:
    with pytest.raises(GenerateArgumentError) as refused:
        generate_some(**arguments)
    assert str(refused.value).startswith(error)
    assert Subscription.objects.count() == 0


def test_future_days_are_refused() -> None:
    generate_some(until=clock.today())
    with pytest.raises(GenerateArgumentError, match=r"the 7 days before .* must lie between"):
        generate_some(until=clock.today() + timedelta(days=1))


def test_days_closed_by_retention_are_refused() -> None:
    for sequence in ("usage_logging_before", "usage_raw_kept_from"):
        run_sql("SELECT setval(%s, date '2026-11-05' - date '1999-12-31')", [sequence])
    with pytest.raises(GenerateArgumentError, match="the day 2026-11-02 is closed"):
        generate_some()

"""Days that are over are sealed once, and keys that change later are repaired."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal

import pytest
from django.conf import LazySettings
from django.db import IntegrityError, connection

from tests.factories import (
    data_record,
    make_subscription,
    refresh_and_seal,
    refresh_totals,
    voice_record,
)
from usage.errors import RefreshRunningError
from usage.models import (
    DailyUsage,
    DataUsageRecord,
    LateKey,
    LiveDailyUsage,
    SealedDailyUsage,
    UsageState,
)
from usage.services.audit import verification
from usage.services.audit.verification import rebuild, verify
from usage.services.raw import partitions
from usage.services.totals import repair
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("state"),
    pytest.mark.one_server("no record comes late there"),
]


@pytest.fixture
def set_today(set_today: Callable[[str], None], settings: LazySettings) -> Callable[[str], None]:
    """Keep raw records longer than other tests do."""
    settings.USAGE_RAW_RETENTION_DAYS = 35
    return set_today


def totals() -> list[tuple[str, str, Decimal, int]]:
    return [
        (day.isoformat(), usage_type, price, count)
        for day, usage_type, price, count in DailyUsage.objects.order_by(
            "day", "usage_type"
        ).values_list("day", "usage_type", "total_price", "record_count")
    ]


def test_days_outside_the_window_are_sealed(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    for day in ["01", "02", "03", "04"]:
        data_record(subscription, f"2026-11-{day}T12:00:00Z", price="1.5")
    set_today("2026-11-04")
    run = refresh_and_seal()
    assert run.days_sealed >= 2
    assert UsageState.objects.get().sealed_before == date(2026, 11, 3)
    assert SealedDailyUsage.objects.count() == 2
    assert totals() == [(f"2026-11-0{n}", "data", Decimal("1.5"), 1) for n in (1, 2, 3, 4)]


def test_late_record_repairs_its_key_only(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    data_record(subscription, "2026-11-01T12:00:00Z", price="1.5")
    voice_record(subscription, "2026-11-01T12:00:00Z", price="7")
    set_today("2026-11-04")
    refresh_and_seal()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")
    assert LateKey.objects.count() == 1
    run = refresh_totals()
    assert (run.keys_repaired, LateKey.objects.count()) == (1, 0)
    assert totals() == [
        ("2026-11-01", "data", Decimal("3.5"), 2),
        ("2026-11-01", "voice", Decimal(7), 1),
    ]


def test_key_without_records_disappears(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    record = data_record(subscription, "2026-11-01T12:00:00Z", price="1.5")
    set_today("2026-11-04")
    refresh_and_seal()
    record.delete()
    refresh_totals()
    assert totals() == []


def test_whole_day_is_read_when_many_keys_are_late(
    set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "WHOLE_DAY_KEYS", 1)
    subscription, other = make_subscription(), make_subscription()
    data_record(subscription, "2026-11-01T12:00:00Z", price="1.5")
    gone = data_record(other, "2026-11-01T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    gone.delete()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")
    run = refresh_totals()
    assert run.keys_repaired == 2
    assert totals() == [("2026-11-01", "data", Decimal("3.5"), 2)]


def test_live_view_needs_no_refresh(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    for day in ["01", "03"]:
        data_record(subscription, f"2026-11-{day}T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")
    data_record(subscription, "2026-11-03T13:00:00Z", price="3")
    voice_record(subscription, "2026-11-09T13:00:00Z", price="4")
    assert list(
        LiveDailyUsage.objects.order_by("day", "usage_type").values_list("day", "total_price")
    ) == [(date(2026, 11, 1), 3), (date(2026, 11, 3), 4), (date(2026, 11, 9), 4)]


def test_retention_drops_records_and_keeps_totals(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    partitions.make_partitions([date(2026, 9, 1), date(2026, 9, 2)])
    for moment in ["2026-09-01T12:00:00Z", "2026-08-01T12:00:00Z", "2026-11-01T12:00:00Z"]:
        data_record(subscription, moment, price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    before = totals()
    data_record(subscription, "2026-09-01T13:00:00Z", price="5")
    report = prune()
    assert report.first_kept_day == date(2026, 10, 1)
    assert report.partitions_dropped == [
        "usage_datausagerecord_p20260901",
        "usage_datausagerecord_p20260902",
        "usage_voiceusagerecord_p20260901",
        "usage_voiceusagerecord_p20260902",
    ]
    assert report.strays_deleted == 1
    before[1] = ("2026-09-01", "data", Decimal(6), 2)
    assert totals() == before
    assert DataUsageRecord.objects.count() == 1
    with pytest.raises(IntegrityError, match="2026-10-01"):
        data_record(subscription, "2026-09-30T23:00:00Z")
    refresh_totals()
    rebuild(from_date=date(2026, 8, 1), to_date=date(2026, 11, 30))
    assert totals() == before


@pytest.mark.usefixtures("only_default_partitions")
def test_audit_finds_and_repairs_changes_that_no_trigger_saw(
    set_today: Callable[[str], None],
) -> None:
    subscription = make_subscription()
    data_record(subscription, "2026-11-01T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    assert verify().differing == 0
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_datausagerecord_default"
            " (subscription_id, usage_date, kilobytes_used, price) VALUES (%s, %s, 1, 2)",
            [subscription.pk, datetime.fromisoformat("2026-11-02T12:00:00Z")],
        )
    assert verify(sample=10).differing == 1
    report = verify(repair=True)
    assert (report.differing, report.repaired) == (1, True)
    assert [difference.day for difference in report.differences] == [date(2026, 11, 2)]
    assert verify().differing == 0
    assert totals()[1] == ("2026-11-02", "data", Decimal(2), 1)


def test_truncate_empties_sealed_days_too(set_today: Callable[[str], None]) -> None:
    subscription = make_subscription()
    data_record(subscription, "2026-11-01T12:00:00Z", price="1")
    voice_record(subscription, "2026-11-01T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_datausagerecord")
    refresh_totals()
    assert totals() == [("2026-11-01", "voice", Decimal(1), 1)]


def test_partition_that_we_did_not_make_is_sealed_and_audited(
    set_today: Callable[[str], None],
) -> None:
    """Fails when the days to seal are found only by the names of partitions."""
    subscription = make_subscription()
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE usage_datausagerecord_p20250301 PARTITION OF usage_datausagerecord"
            " FOR VALUES FROM ('2025-03-01 00:00+00') TO ('2025-04-01 00:00+00')"
        )
    try:
        for day in ["01", "05", "31"]:
            data_record(subscription, f"2025-03-{day}T12:00:00Z", price="1")
        set_today("2026-11-04")
        refresh_and_seal()
        assert [day for day, _, _, _ in totals()] == ["2025-03-01", "2025-03-05", "2025-03-31"]
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM usage_daily_sealed WHERE day = '2025-03-05'")
        assert verify(repair=True).repaired
        assert len(totals()) == 3
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE usage_datausagerecord_p20250301")


def test_repair_mends_more_keys_than_a_report_names(
    set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when only the differences that the report names are marked late."""
    monkeypatch.setattr(verification, "MOST_DIFFERENCES", 2)
    for _ in range(5):
        data_record(make_subscription(), "2026-11-01T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_daily_sealed SET total_price = 9")
    report = verify(repair=True)
    assert (report.differing, len(report.differences), report.repaired) == (5, 2, True)
    assert verify().differing == 0


def test_sequences_that_a_restore_left_behind_catch_up(set_today: Callable[[str], None]) -> None:
    """Fails when announce_days() does not move the sequences forward to the state."""
    subscription = make_subscription()
    data_record(subscription, "2026-11-01T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    with connection.cursor() as cursor:
        cursor.execute("ALTER SEQUENCE usage_logging_before RESTART")
    refresh_totals()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")
    refresh_totals()
    assert totals() == [("2026-11-01", "data", Decimal(3), 2)]


def test_days_closed_beyond_the_sealed_ones_keep_their_records(
    set_today: Callable[[str], None],
) -> None:
    """Fails when a prune empties days that are not sealed."""
    data_record(make_subscription(), "2026-11-03T12:00:00Z", price="1")
    set_today("2026-11-04")
    refresh_and_seal()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT setval('usage_raw_kept_from', date '2026-11-04' - date '1999-12-31')"
        )
    with pytest.raises(RefreshRunningError, match="only days before 2026-11-03 are sealed"):
        prune()
    refresh_totals()
    assert len(totals()) == 1


def test_nobody_else_can_attach_the_capture_of_late_keys() -> None:
    """Fails when PUBLIC may execute the SECURITY DEFINER function."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT has_function_privilege('usage_analyst', 'usage_log_late_keys()', 'EXECUTE')"
        )
        assert cursor.fetchone() == (False,)


def test_first_record_of_2000_west_of_greenwich_is_not_closed() -> None:
    """Fails when a record can have day zero of the sequences."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT date '1999-12-31' + last_value::integer FROM usage_raw_kept_from")
        assert cursor.fetchone() == (date(1999, 12, 31),)
        cursor.execute("SELECT ('2000-01-01 00:00Z'::timestamptz AT TIME ZONE '-12')::date")
        assert cursor.fetchone() >= (date(1999, 12, 31),)

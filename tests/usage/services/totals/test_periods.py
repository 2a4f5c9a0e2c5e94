"""Totals of months and of all days follow the daily totals, at a cost that follows the change."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.connections import ask, run_sql, second_session, wait_for_lock
from tests.exact import assert_exact, periods_of, stored_periods, totals_of
from tests.factories import (
    data_record,
    make_subscription,
    refresh_and_seal,
    refresh_totals,
    voice_record,
)
from usage.models import (
    DataUsageRecord,
    PeriodTotal,
    RefreshRun,
    Subscription,
    UsageState,
    VoiceUsageRecord,
)
from usage.services.audit.verification import rebuild, verify
from usage.services.totals import periods as keeping
from usage.services.totals.changes import Changes
from usage.services.totals.refresh import refresh
from worker.tasks import audit

pytestmark = pytest.mark.usefixtures("state")

ALL_DAYS = date.min
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)


def versions() -> dict[tuple[Any, ...], str]:
    """Return the id of the transaction that wrote each row."""
    return {
        tuple(key): version
        for *key, version in run_sql(
            "SELECT subscription_id, period, usage_type, xmin::text FROM usage_period_total"
        )
    }


def test_a_month_and_all_days_add_up_both_types() -> None:
    first, second = make_subscription(id=1), make_subscription(id=2)
    data_record(first, "2026-10-31T23:59:59Z", price="0.10", kilobytes=3)
    data_record(first, "2026-11-01T00:00:00Z", price="1.5", kilobytes=4)
    data_record(first, "2026-11-30T23:59:59Z", price="-0.25", kilobytes=0)
    voice_record(first, "2026-11-02T10:00:00Z", price="2", seconds=60)
    voice_record(second, "2026-11-02T10:00:00Z", price="0.00000001", seconds=1)
    refresh_totals()
    assert stored_periods() == [
        (1, ALL_DAYS, "data", Decimal("1.35"), 7, 3, False),
        (1, ALL_DAYS, "voice", Decimal(2), 60, 1, True),
        (1, OCTOBER, "data", Decimal("0.10"), 3, 1, True),
        (1, NOVEMBER, "data", Decimal("1.25"), 4, 2, False),
        (1, NOVEMBER, "voice", Decimal(2), 60, 1, True),
        (2, ALL_DAYS, "voice", Decimal("0.00000001"), 1, 1, True),
        (2, NOVEMBER, "voice", Decimal("0.00000001"), 1, 1, True),
    ]


def test_a_change_of_one_type_can_make_the_other_the_largest() -> None:
    subscription = make_subscription(id=1)
    data_record(subscription, "2026-11-02T10:00:00Z", price="5")
    voice_record(subscription, "2026-11-02T10:00:00Z", price="3")
    refresh_totals()
    voice_record(subscription, "2026-11-02T11:00:00Z", price="2")
    refresh_totals()
    largest = PeriodTotal.objects.filter(is_largest=True).values_list("period", "usage_type")
    assert set(largest) == {(ALL_DAYS, "data"), (NOVEMBER, "data")}, "of equal ones the first"
    voice_record(subscription, "2026-11-02T12:00:00Z", price="0.01")
    refresh_totals()
    assert set(largest.all()) == {(ALL_DAYS, "voice"), (NOVEMBER, "voice")}
    assert_exact()


def test_a_key_that_vanishes_from_an_open_day_is_subtracted() -> None:
    """Fails when only the rows that the refresh wrote are noted."""
    subscription = make_subscription(id=1)
    for at in ("2026-10-31T12:00:00Z", "2026-11-01T12:00:00Z"):
        data_record(subscription, at, price="1")
    voice_record(subscription, "2026-11-01T12:00:00Z", price="7")
    refresh_totals()
    VoiceUsageRecord.objects.all().delete()
    DataUsageRecord.objects.filter(usage_date__lt="2026-11-01T00:00Z").delete()
    refresh_totals()
    assert stored_periods() == [
        (1, ALL_DAYS, "data", Decimal(1), 0, 1, True),
        (1, NOVEMBER, "data", Decimal(1), 0, 1, True),
    ]
    run_sql("TRUNCATE usage_datausagerecord")
    refresh_totals()
    assert stored_periods() == []


def test_a_refresh_writes_the_periods_that_changed_and_no_other() -> None:
    for pk in (1, 2):
        for at in ("2026-10-31T12:00:00Z", "2026-11-01T12:00:00Z"):
            data_record(make_subscription_once(pk), at, price="1")
    refresh_totals()
    before = versions()
    refresh_totals()
    assert versions() == before
    data_record(make_subscription_once(1), "2026-11-01T13:00:00Z", price="1")
    refresh_totals()
    changed = {key for key, version in versions().items() if version != before[key]}
    assert changed == {(1, ALL_DAYS, "data"), (1, NOVEMBER, "data")}


def make_subscription_once(pk: int) -> Any:
    return Subscription.objects.filter(pk=pk).first() or make_subscription(id=pk)


def test_sealing_a_day_changes_no_period(set_today: Callable[[str], None]) -> None:
    set_today("2026-11-02")
    for day in (1, 2):
        data_record(make_subscription_once(1), f"2026-11-0{day}T12:00:00Z", price="1")
    refresh_and_seal()
    before = versions()
    set_today("2026-11-04")
    refresh_and_seal()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 3)
    assert versions() == before
    assert_exact()


def test_records_inserted_just_before_their_day_is_sealed_count_once(
    set_today: Callable[[str], None],
) -> None:
    """Such records were never in the open view."""
    set_today("2026-11-02")
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_and_seal()
    data_record(make_subscription(id=2), "2026-11-01T12:00:00Z", price="2")
    data_record(make_subscription_once(1), "2026-11-02T12:00:00Z", price="3")
    set_today("2026-11-04")
    refresh_and_seal()
    assert_exact()


@pytest.mark.one_server("no record comes late there")
def test_late_records_of_a_sealed_month_change_it(
    set_today: Callable[[str], None], settings: Any
) -> None:
    set_today("2026-11-10")
    settings.USAGE_RAW_RETENTION_DAYS = 40
    for pk in (1, 2):
        data_record(make_subscription(id=pk), "2026-10-20T12:00:00Z", price="1")
    refresh_and_seal()
    data_record(make_subscription_once(1), "2026-10-20T13:00:00Z", price="0.5", kilobytes=9)
    DataUsageRecord.objects.filter(subscription_id=2).delete()
    refresh_totals()
    assert stored_periods() == [
        (1, ALL_DAYS, "data", Decimal("1.5"), 9, 2, True),
        (1, OCTOBER, "data", Decimal("1.5"), 9, 2, True),
    ]
    assert_exact()


def test_a_refresh_by_hand_that_only_moves_money_is_noticed() -> None:
    """Fails when the fingerprint adds up prices without a weight by key."""
    for pk, price in ((1, "5"), (2, "3")):
        data_record(make_subscription(id=pk), "2026-11-01T12:00:00Z", price=price)
    refresh_totals()
    run_sql("UPDATE usage_datausagerecord SET price = 8 - price")
    run_sql("REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open")
    refresh_totals()
    assert_exact()


@pytest.mark.one_server("no record comes late there")
def test_a_refresh_by_hand_may_restore_a_sealed_day_to_the_view(
    set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh by hand with an old snapshot waits for the refresh that seals a day of another
    month. Fails when the day is subtracted from its month as it leaves the view again."""
    set_today("2026-12-01")
    subscription = make_subscription(id=1)
    for day in ("11-29", "11-30", "12-01"):
        data_record(subscription, f"2026-{day}T12:00:00Z", price="1")
    refresh_and_seal()
    set_today("2026-12-02")
    with (
        second_session(autocommit=True) as session,
        second_session(autocommit=True) as watcher,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting: list[Future[Any]] = []

        def let_one_wait(_state: UsageState, run: RefreshRun) -> None:
            if run.days_sealed and not waiting:
                refresh_by_hand = "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open"
                waiting.append(pool.submit(ask, session, refresh_by_hand))
                wait_for_lock(watcher, session.get_backend_pid())

        for _ in range(50):
            refresh(trigger=RefreshRun.Trigger.COMMAND, then=let_one_wait)
            if waiting:
                break
        waiting[0].result(10)
    assert run_sql("SELECT count(*) FROM usage_daily WHERE day = '2026-11-30'") == [(2,)]
    refresh_totals()
    assert_exact()


@pytest.mark.parametrize("how", ["", "CONCURRENTLY"])
@pytest.mark.one_server("no record comes late there")
def test_a_refresh_by_hand_is_noticed(how: str, set_today: Callable[[str], None]) -> None:
    """Fails when the period totals rely on nobody else changing the open view."""
    set_today("2026-11-02")
    subscription = make_subscription(id=1)
    for at in ("2026-10-01T12:00:00Z", "2026-11-01T12:00:00Z", "2026-11-02T12:00:00Z"):
        data_record(subscription, at, price="1")
    refresh_and_seal()
    data_record(subscription, "2026-11-02T13:00:00Z", price="5")
    DataUsageRecord.objects.filter(usage_date="2026-11-01T12:00Z").delete()
    run_sql(f"REFRESH MATERIALIZED VIEW {how} usage_daily_open")
    data_record(subscription, "2026-10-01T14:00:00Z", price="4")
    refresh_totals()
    assert_exact()


def test_a_view_that_was_emptied_is_filled_again() -> None:
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open WITH NO DATA")
    data_record(make_subscription(id=2), "2026-11-01T12:00:00Z", price="2")
    refresh_totals()
    assert_exact()


def test_readers_see_daily_and_period_totals_change_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    data_record(make_subscription(id=2), "2026-11-01T12:00:00Z", price="2")
    before = stored_periods()
    original = keeping.apply_changes
    seen = []

    def apply_and_look(changes: Changes) -> str:
        remark = original(changes)
        with second_session() as reader:
            seen.append(stored_periods(lambda query: ask(reader, query)))
        return remark

    monkeypatch.setattr(keeping, "apply_changes", apply_and_look)
    refresh_totals()
    assert seen == [before]
    assert stored_periods() == periods_of(totals_of("usage_daily")) != before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE usage_period_total SET total_price = 9 WHERE period = '2026-11-01'",
        "UPDATE usage_period_total SET record_count = 9 WHERE period = '0001-01-01'",
        "UPDATE usage_period_total SET is_largest = FALSE",
        "DELETE FROM usage_period_total",
        "INSERT INTO usage_period_total VALUES (7, '2026-11-01', 'data', 1, 1, 1, TRUE)",
    ],
)
def test_an_audit_finds_a_wrong_period_and_repairs_it(
    damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    assert verify().periods_differing == 0
    run_sql(damage)
    with pytest.raises(CommandError, match="totals of periods differ from the daily totals"):
        call_command("verify_usage")
    assert "subscription " in capsys.readouterr().out
    report = verify(repair=True)
    assert (report.differing, report.repaired) == (0, True)
    assert report.periods_differing == len(report.period_differences) > 0
    assert_exact()


def test_the_daily_audit_reports_a_wrong_period() -> None:
    """Fails when it compares periods without a report of the differences."""
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    run_sql("UPDATE usage_period_total SET total_price = 9 WHERE period = '2026-11-01'")
    assert audit() == 1
    assert RefreshRun.objects.latest("pk").keys_differing == 1


@pytest.mark.one_server("no record comes late there")
def test_an_audit_of_right_periods_leaves_them_alone(set_today: Callable[[str], None]) -> None:
    set_today("2026-11-04")
    for pk in (1, 2):
        data_record(make_subscription(id=pk), "2026-11-01T12:00:00Z", price="1")
    refresh_and_seal()
    before = versions()
    run_sql(
        "INSERT INTO usage_datausagerecord_default VALUES (gen_random_uuid(), 1, '2026-11-01', 5)"
    )
    report = verify(repair=True)
    assert (report.differing, report.periods_differing, report.repaired) == (1, 0, True)
    changed = {key for key, version in versions().items() if version != before[key]}
    assert changed == {(1, ALL_DAYS, "data"), (1, NOVEMBER, "data")}


def test_an_audit_names_the_month_and_both_totals(capsys: pytest.CaptureFixture[str]) -> None:
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1.50")
    refresh_totals()
    run_sql("UPDATE usage_period_total SET total_price = 9 WHERE period <> '0001-01-01'")
    with pytest.raises(CommandError):
        call_command("verify_usage", sample=1)
    assert (
        "subscription 1 2026-11 data: total 9 of 1 records, expected 1.50 of 1\n"
        in capsys.readouterr().out
    )


@pytest.mark.one_server("no record comes late there")
def test_a_rebuilt_day_changes_its_month(set_today: Callable[[str], None]) -> None:
    """The record is written to a partition, so no trigger sees it."""
    set_today("2026-11-04")
    data_record(make_subscription(id=1), "2026-11-01T12:00:00Z", price="1")
    refresh_and_seal()
    run_sql(
        "INSERT INTO usage_datausagerecord_default (subscription_id, usage_date, kilobytes_used)"
        " VALUES (1, '2026-11-01 13:00Z', 5)"
    )
    rebuild(from_date=date(2026, 11, 1), to_date=date(2026, 11, 1))
    assert stored_periods()[0] == (1, ALL_DAYS, "data", Decimal(1), 5, 2, True)
    assert_exact()


def test_a_refresh_removes_the_dead_rows_that_it_left() -> None:
    """Fails when it relies on autovacuum, which looks once a minute, and when it reads the
    statistics before they include the last changes."""
    subscriptions = [make_subscription(id=number) for number in range(1, 41)]
    for price in ("1", "2"):
        for subscription in subscriptions:
            data_record(subscription, "2026-11-02T10:00:00Z", price=price)
        refresh_totals()
    run_sql("SELECT pg_stat_force_next_flush()")
    assert run_sql(
        "SELECT n_live_tup, n_dead_tup FROM pg_stat_all_tables"
        " WHERE relid = 'usage_period_total'::regclass"
    ) == [(80, 0)]

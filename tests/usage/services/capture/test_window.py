"""USAGE_LATE_KEYS=window: every day with raw records is open, and a day outside is final.

Three days are open and today is 2026-11-04, so days before the 2nd are closed and sealed.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import IntegrityError, transaction
from psycopg2 import errors

from tests.connections import ON_CITUS, ask, in_thread, run_sql, second_session
from tests.exact import assert_exact, periods_of, plain_totals, stored_periods, totals_of
from tests.factories import data_record, make_subscription, refresh_totals, voice_record
from tests.refresh_steps import after
from usage.database.startup import refuse_other_settings
from usage.errors import LateKeysChangedError
from usage.models import RAW_TABLES, DataUsageRecord, LateKeysMode, RefreshRun, UsageState
from usage.services.audit.restores import check_restore
from usage.services.audit.verification import rebuild, verify
from usage.services.capture import sequences
from usage.services.raw import locks
from usage.services.raw.partitions import make_partitions, partition_days
from usage.services.steps import Step
from usage.services.totals.late_keys_switch import switch
from usage.services.totals.refresh import refresh
from usage.services.totals.retention import prune
from usage.services.totals.status import Status, read_status

pytestmark = pytest.mark.usefixtures("only_default_partitions", "window")

SetToday = Callable[[str], None]
SwitchTo = Callable[[LateKeysMode], None]
INSERT = "INSERT INTO usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"


@pytest.fixture
def window(
    only_default_partitions: None,
    switch_to: SwitchTo,
    set_today: SetToday,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 3
    monkeypatch.setattr(locks, "TRIES", 2)
    monkeypatch.setattr(locks, "LOCK_MILLISECONDS", 20)
    make_partitions([date(2026, 11, 1)])
    switch_to(LateKeysMode.WINDOW)
    for pk in (1, 2):
        subscription = make_subscription(id=pk)
        for day in range(1, 5):
            data_record(subscription, f"2026-11-0{day}T12:00:00Z", price="1.5", kilobytes=day)
            voice_record(subscription, f"2026-11-0{day}T12:00:00Z", price="0.25", seconds=pk)
    set_today("2026-11-04")


def sealed_before() -> date | None:
    return UsageState.objects.get().sealed_before


def test_days_that_leave_the_window_are_sealed_and_final_at_once() -> None:
    expected = plain_totals()
    run = refresh_totals()
    state = UsageState.objects.get()
    assert run.days_sealed >= 1
    assert (state.sealed_before, state.raw_kept_from) == (date(2026, 11, 2), date(2026, 11, 2))
    assert len(totals_of("usage_daily_sealed")) == 4
    assert totals_of("usage_daily") == totals_of("usage_daily_live") == expected
    assert stored_periods() == periods_of(expected)


def test_writes_to_open_days_are_exact_and_leave_no_late_key() -> None:
    """Fails when the window still has a trigger for inserts."""
    refresh_totals()
    prune()
    DataUsageRecord.objects.filter(subscription_id=1, usage_date__day=2).delete()
    DataUsageRecord.objects.filter(subscription_id=1, usage_date__day=3).update(price="7")
    run_sql(f"{INSERT} VALUES (3, '2026-11-02Z', 5), (3, '2027-01-01Z', 6)")
    refresh_totals()
    kept = [row for row in totals_of("usage_daily") if row[1] >= date(2026, 11, 2)]
    assert kept == plain_totals()
    assert run_sql("SELECT count(*) FROM usage_late_key") == [(0,)]
    left = ["delete", "move", "update"]
    assert ([] if ON_CITUS else [f"usage_log_late_keys_{event}" for event in left]) == [
        name
        for (name,) in run_sql(
            "SELECT DISTINCT tgname FROM pg_trigger WHERE tgname LIKE 'usage_log%' ORDER BY 1"
        )
    ]


@pytest.mark.parametrize(
    "write",
    [
        f"{INSERT} VALUES (1, '2026-11-01T13:00Z', 5)",
        f"{INSERT} VALUES (1, '2026-11-03T13:00Z', 5), (1, '2026-10-01Z', 5)",
        "UPDATE usage_datausagerecord SET price = 9 WHERE usage_date < '2026-11-02Z'",
        "UPDATE usage_datausagerecord SET usage_date = '2026-11-01Z' WHERE subscription_id = 1",
        pytest.param(
            "UPDATE usage_voiceusagerecord SET usage_date = '2026-11-03Z'"
            " WHERE usage_date < '2026-11-02Z' AND subscription_id = 1",
            marks=pytest.mark.one_server("it refuses triggers"),
        ),
        pytest.param(
            "DELETE FROM usage_voiceusagerecord WHERE usage_date < '2026-11-02Z'",
            marks=pytest.mark.one_server("it refuses triggers"),
        ),
    ],
)
def test_closed_day_refuses_every_change(write: str) -> None:
    """Fails when the constraint is missing, when the triggers of UPDATE and DELETE are off, and
    when they do not read the closed day."""
    refresh_totals()
    before = totals_of("usage_daily")
    with pytest.raises(IntegrityError, match="2026-11-02"), transaction.atomic():
        run_sql(write)
    refresh_totals()
    assert totals_of("usage_daily") == before


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_writer_from_before_the_closing_is_waited_for(isolation: str) -> None:
    """Fails when days are sealed without waiting for their writers, or without a message."""
    with second_session(autocommit=True) as session:
        ask(session, f"BEGIN ISOLATION LEVEL {isolation}; {INSERT} VALUES (3, '2026-11-01Z', 7)")
        refresh_totals()
        assert sealed_before() is None
        waiting = read_status()
        assert waiting.days_to_seal == 1
        assert any(
            f"process {session.info.backend_pid} " in text for text in waiting.fence_waits_for
        )
        ask(session, "COMMIT")
    run = refresh_totals()
    assert run.days_sealed >= 1
    assert (read_status().days_to_seal, read_status().fence_waits_for) == (0, [])
    assert totals_of("usage_daily") == plain_totals()
    assert [row[0] for row in totals_of("usage_daily_sealed")] == [1, 1, 2, 2, 3]


@pytest.mark.one_server("it prepares no transaction by itself that several servers have a part in")
def test_prepared_transaction_that_delays_a_closing_is_named() -> None:
    """Fails when it is found by anything but the lock on its own id."""
    if run_sql("SHOW max_prepared_transactions") == [("0",)]:
        pytest.skip("the server allows no prepared transactions")
    with second_session(autocommit=True) as session:
        ask(session, f"BEGIN; {INSERT} VALUES (3, '2026-11-01Z', 7)")
        ask(session, "PREPARE TRANSACTION 'in the window'")
        try:
            refresh_totals()
            assert sealed_before() is None
            waits_for = read_status().fence_waits_for
            assert any("prepared transaction 'in the window'" in text for text in waits_for)
        finally:
            ask(session, "COMMIT PREPARED 'in the window'")
    refresh_totals()
    assert sealed_before() == date(2026, 11, 2)
    assert_exact()


def test_the_refresh_that_seals_is_not_named_as_a_blocker() -> None:
    """Fails when the status of a closed day still names sessions that lock a raw table."""
    seen: list[Status] = []

    def look(*_arguments: Any) -> None:
        with in_thread(read_status) as status:
            seen.append(status.result())

    refresh(trigger=RefreshRun.Trigger.COMMAND, then=look)
    assert [(status.days_to_seal, status.fence_waits_for) for status in seen] == [(1, [])]


def test_old_snapshot_that_writes_after_the_closing_is_refused() -> None:
    """Fails when the check depends on the snapshot of the writer."""
    with second_session(autocommit=True) as session:
        ask(session, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM usage_state")
        refresh_totals()
        before = totals_of("usage_daily")
        with pytest.raises(errors.CheckViolation, match="2026-11-02"):
            ask(session, f"{INSERT} VALUES (3, '2026-11-01Z', 7)")
    refresh_totals()
    assert totals_of("usage_daily") == before


def test_interrupted_closing_is_continued() -> None:
    """Fails when the closed day is forgotten, or when a day is sealed that is not closed."""

    class CutOffError(Exception):
        pass

    def end() -> None:
        raise CutOffError

    with after(Step.TOTALS_LOCKED, end), pytest.raises(CutOffError):
        refresh_totals()
    assert sealed_before() is None
    with pytest.raises(IntegrityError), transaction.atomic():
        run_sql(f"{INSERT} VALUES (3, '2026-11-01Z', 7)")
    assert totals_of("usage_daily_live") == plain_totals()
    refresh_totals()
    assert sealed_before() == date(2026, 11, 2)
    assert_exact()


def test_prune_drops_closed_days_and_changes_no_total(set_today: SetToday) -> None:
    """Fails when a prune drops a day that is not sealed, and when a repair, rebuild or audit reads
    the remaining records of a closed day."""
    refresh_totals()
    run_sql("DELETE FROM usage_voiceusagerecord WHERE usage_date > '2026-11-05Z'")
    before = totals_of("usage_daily")
    assert prune(dry_run=True).partitions_dropped == [f"{table}_p20261101" for table in RAW_TABLES]
    report = prune()
    assert report.partitions_dropped == [f"{table}_p20261101" for table in RAW_TABLES]
    assert [partition_days(table) for table in RAW_TABLES] == [[], []]
    # These strays are in the default partition, because their days got no partition in time.
    set_today("2026-11-05")
    refresh_totals()
    assert prune().strays_deleted == 4
    refresh_totals()
    rebuild(from_date=date(2026, 10, 1), to_date=date(2026, 11, 30))
    assert verify(repair=True).differing == 0
    assert totals_of("usage_daily") == before == totals_of("usage_daily_live")
    assert make_partitions([date(2026, 11, 1)]) == []


def test_new_partition_refuses_what_the_table_refuses() -> None:
    """Fails when a partition is made without the CHECK constraint of its table."""
    refresh_totals()
    prune()
    make_partitions([date(2026, 11, 5)])
    with pytest.raises(IntegrityError, match="2026-11-02"), transaction.atomic():
        run_sql(f"{INSERT} VALUES (3, '2026-11-01Z', 7)")
    run_sql(f"{INSERT} VALUES (3, '2026-11-05Z', 7)")
    refresh_totals()
    assert totals_of("usage_daily")[-1][:2] == (3, date(2026, 11, 5))


@pytest.mark.one_server("it refuses triggers")
def test_switch_to_triggers_and_back_changes_no_total(
    settings: LazySettings, set_today: SetToday
) -> None:
    """Fails when the switch to a window keeps days with raw records sealed, when it loses a late
    key, and when closed days accept records in between."""
    refresh_totals()
    prune()
    closed = [row for row in totals_of("usage_daily") if row[1] < date(2026, 11, 2)]
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    assert switch(dry_run=True)
    assert UsageState.objects.get().is_window
    assert switch()
    assert not switch()
    settings.USAGE_OPEN_DAYS = 1
    for _ in range(300):
        refresh_totals()
        if sealed_before() == date(2026, 11, 4):
            break
    run_sql(f"{INSERT} VALUES (1, '2026-11-02Z', 5)")
    assert refresh_totals().keys_repaired == 1
    with pytest.raises(IntegrityError, match="2026-11-02"), transaction.atomic():
        run_sql(f"{INSERT} VALUES (1, '2026-11-01Z', 5)")
    run_sql(f"{INSERT} VALUES (1, '2026-11-03Z', 5)")  # late, and not repaired yet
    settings.USAGE_OPEN_DAYS = 3
    settings.USAGE_LATE_KEYS = LateKeysMode.WINDOW
    assert switch()
    expected = sorted(closed + plain_totals(), key=lambda row: row[:3])
    assert totals_of("usage_daily") == totals_of("usage_daily_live") == expected
    assert stored_periods() == periods_of(expected)
    with pytest.raises(IntegrityError, match="2026-11-02"), transaction.atomic():
        run_sql(f"{INSERT} VALUES (1, '2026-11-01Z', 5)")
    refresh_totals()
    assert totals_of("usage_daily") == expected


@pytest.mark.one_server("it refuses triggers")
def test_switch_adds_up_all_months_if_they_are_due_again(
    settings: LazySettings, set_today: SetToday
) -> None:
    """Fails when only the months of open days are added up, and the others count as right."""
    set_today("2026-12-03")
    refresh_totals()
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    assert switch()
    prune()
    run_sql("UPDATE usage_state SET open_digest = NULL")  # as verify_usage --repair does
    run_sql("UPDATE usage_period_total SET total_price = total_price + 1")
    settings.USAGE_LATE_KEYS = LateKeysMode.WINDOW
    assert switch()
    expected = periods_of(totals_of("usage_daily"))
    assert stored_periods() == expected
    refresh_totals()
    assert stored_periods() == expected


@pytest.mark.one_server("it refuses triggers")
def test_window_that_has_not_sealed_yet_can_be_left_again(settings: LazySettings) -> None:
    """Fails when the switch back needs a day that this window has sealed."""
    refresh_totals()
    prune()
    for late_keys in (LateKeysMode.TRIGGERS, LateKeysMode.WINDOW, LateKeysMode.TRIGGERS):
        settings.USAGE_LATE_KEYS = late_keys
        assert switch()
    run_sql(f"{INSERT} VALUES (1, '2026-11-02Z', 5)")
    refresh_totals()
    assert totals_of("usage_daily") == totals_of("usage_daily_live")


@pytest.mark.one_server("it refuses triggers")
def test_window_is_not_left_while_days_are_being_closed(settings: LazySettings) -> None:
    """Fails when the switch succeeds: the triggers would then refuse records of open days."""
    with second_session(autocommit=True) as session:
        ask(session, f"BEGIN; {INSERT} VALUES (3, '2026-11-01Z', 7)")
        refresh_totals()
        ask(session, "COMMIT")
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    with pytest.raises(LateKeysChangedError, match="closed days and not sealed them yet"):
        switch()
    settings.USAGE_LATE_KEYS = LateKeysMode.WINDOW
    refresh_totals()
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    assert switch()
    assert_exact()


def test_other_setting_than_that_of_the_database_is_refused(
    settings: LazySettings, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse_other_settings()
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    with pytest.raises(LateKeysChangedError, match=r"has window.*switch_late_keys"):
        refuse_other_settings()
    refresh_totals_is_refused()
    settings.USAGE_LATE_KEYS = LateKeysMode.WINDOW
    call_command("switch_late_keys")
    assert "has window already" in capsys.readouterr().out


def test_refresh_with_another_setting_closes_no_day(settings: LazySettings) -> None:
    """Fails when days are closed before the setting is refused."""
    refresh_totals()
    settings.USAGE_LATE_KEYS = LateKeysMode.TRIGGERS
    settings.USAGE_OPEN_DAYS = 1
    refresh_totals_is_refused()
    run_sql(f"{INSERT} VALUES (3, '2026-11-02Z', 7)")
    DataUsageRecord.objects.filter(subscription_id=1, usage_date__day=2).delete()


def refresh_totals_is_refused() -> None:
    with pytest.raises(Exception, match="USAGE_LATE_KEYS"):
        refresh_totals()


def test_a_constraint_that_a_restore_left_out_is_made_before_a_day_is_sealed() -> None:
    """Fails when only the sequences are compared: sealed days would then accept records."""
    refresh_totals()
    before = totals_of("usage_daily")
    run_sql("SELECT usage_close_days(NULL)")
    assert "usage_raw_kept_from_check" in sequences.behind()
    assert "usage_raw_kept_from_check has not reached" in str(check_restore())
    run = refresh_totals()
    assert "usage_raw_kept_from_check" in run.remark
    assert sequences.behind() == {}
    with pytest.raises(IntegrityError, match="2026-11-02"), transaction.atomic():
        run_sql(f"{INSERT} VALUES (1, '2026-11-01T13:00Z', 5)")
    assert totals_of("usage_daily") == before

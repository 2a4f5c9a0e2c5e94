"""Property 13: while the clock is ahead, a prune drops at most three days and reports it.

The command reopen_days undoes what the wrong clock sealed and closed.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.db import IntegrityError

from tests.connections import ask, run_sql, second_session
from tests.exact import plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.refresh_steps import after
from usage.errors import DaysWithoutRecordsError, RefreshRunningError
from usage.models import RAW_TABLES, DataUsageRecord, LateKeysMode, RefreshRun, UsageState
from usage.services.raw import reached_day
from usage.services.raw.partitions import make_partitions, partition_days
from usage.services.steps import Step
from usage.services.totals.reopen import reopen
from usage.services.totals.retention import prune
from usage.services.totals.status import read_status

pytestmark = pytest.mark.usefixtures("only_default_partitions")

SetToday = Callable[[str], None]
TODAY, FAR_AHEAD = "2026-11-20", "2027-12-25"


@pytest.fixture
def usage(set_today: SetToday, settings: LazySettings) -> None:
    """Write records of ten days. Two days are open, and raw records are kept for five days."""
    subscription = make_subscription(id=1)
    set_today(TODAY)
    for day in range(11, 21):
        data_record(subscription, f"2026-11-{day}T12:00:00Z", price="1", kilobytes=day)


def set_reached_day(day: str) -> None:
    UsageState.objects.update(reached_day=day)


def days_with_raw_records() -> list[int]:
    return [
        at.day
        for at in DataUsageRecord.objects.order_by("usage_date").values_list(
            "usage_date", flat=True
        )
    ]


def run(command: str) -> str:
    out = StringIO()
    call_command(*command.split(), stdout=out)
    return out.getvalue()


@pytest.mark.one_server("no record comes late there")
def test_one_prune_follows_the_clock_for_three_days(usage: None, set_today: SetToday) -> None:
    refresh_and_seal()
    prune()
    assert days_with_raw_records() == [16, 17, 18, 19, 20]
    set_today(FAR_AHEAD)
    for _ in range(3):
        refresh_and_seal()
    report = prune()
    assert report.first_kept_day == date(2026, 11, 19)
    assert days_with_raw_records() == [19, 20]
    data_record(make_subscription(id=2), "2026-11-19T13:00:00Z", price="1")
    with pytest.raises(IntegrityError, match="2026-11-19"):
        data_record(make_subscription(id=3), "2026-11-18T13:00:00Z", price="1")
    assert report.held == (
        "The clock of the database says 2027-12-25, 397 days after 2026-11-23, the day that "
        "retention has reached. One prune goes at most 3 days further. If these days have passed, "
        "wait for the next prunes or run: manage.py prune_usage --days-passed. If the clock is "
        "wrong, correct it, then run: manage.py reopen_days"
    )


@pytest.mark.one_server("no record comes late there")
def test_status_run_and_metric_say_why_retention_waits(usage: None, set_today: SetToday) -> None:
    refresh_and_seal()
    prune()
    assert (read_status().clock_is_ahead, refresh_totals().remark) == ("", "")
    set_today("2026-11-23")
    assert read_status().clock_is_ahead == ""
    set_today(FAR_AHEAD)
    assert "397" in run("prune_usage")
    assert "--days-passed" in run("prune_usage --dry-run")
    status = read_status()
    assert status.days_not_reached == 397
    assert status.clock_is_ahead.startswith("The clock of the database says 2027-12-25, 397 days")
    assert refresh_totals().remark == f"{status.clock_is_ahead}."
    assert f"clock         {status.clock_is_ahead}" in run("usage_status")


@pytest.mark.one_server("no record comes late there")
def test_with_days_passed_a_prune_follows_the_clock_at_once(
    usage: None, set_today: SetToday
) -> None:
    refresh_and_seal()
    prune()
    set_today("2026-12-01")
    refresh_and_seal()
    assert "after 2026-11-23" in run("prune_usage")
    assert "Raw records are kept from 2026-11-27." in run("prune_usage --days-passed --dry-run")
    assert days_with_raw_records() == [19, 20]
    assert "after" not in run("prune_usage --days-passed").replace("days after 2026-12-15", "")
    assert days_with_raw_records() == []
    assert UsageState.objects.get().reached_day == date(2026, 12, 1)


@pytest.mark.one_server("no record comes late there")
def test_several_prunes_catch_up_after_an_outage(usage: None, set_today: SetToday) -> None:
    refresh_and_seal()
    prune()
    set_today("2026-11-28")
    refresh_and_seal()
    assert [prune().first_kept_day.day for _ in range(4)] == [19, 22, 24, 24]  # type: ignore[union-attr]
    assert read_status().clock_is_ahead == ""


def test_a_clock_that_is_behind_changes_nothing(usage: None, set_today: SetToday) -> None:
    set_reached_day("2026-11-20")
    set_today("2020-01-01")
    assert reached_day.next_step(UsageState.objects.get()).day == date(2026, 11, 20)
    prune()
    assert len(days_with_raw_records()) == 10


@pytest.mark.one_server("its days are closed by another lock")
def test_in_a_window_only_prunes_follow_a_jump_of_the_clock(
    switch_to: Callable[[LateKeysMode], None], set_today: SetToday, settings: LazySettings
) -> None:
    set_today(TODAY)
    settings.USAGE_OPEN_DAYS = settings.USAGE_RAW_RETENTION_DAYS = 5
    switch_to(LateKeysMode.WINDOW)
    subscription = make_subscription(id=1)
    for day in range(11, 21):
        data_record(subscription, f"2026-11-{day}T12:00:00Z", price="1", kilobytes=day)
    refresh_totals()
    refresh_totals()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 16)
    before = totals_of("usage_daily")
    set_today(FAR_AHEAD)
    for _ in range(3):
        last_run = refresh_totals()
    assert "days after 2026-11-20" in last_run.remark
    assert UsageState.objects.get().sealed_before == date(2026, 11, 16)
    prune()
    refresh_totals()
    refresh_totals()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 19)
    assert totals_of("usage_daily") == before
    set_today("2026-11-25")
    refresh_totals()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 21)


@pytest.mark.one_server("no record comes late there")
def test_days_sealed_and_closed_by_a_wrong_clock_are_opened_again(
    usage: None, set_today: SetToday, settings: LazySettings
) -> None:
    refresh_and_seal()
    prune()
    before = totals_of("usage_daily")
    set_today(FAR_AHEAD)
    refresh_and_seal()
    # An earlier release closed every day at once and then waited for its fence.
    run_sql("SELECT setval('usage_raw_kept_from', date '2027-12-21' - date '1999-12-31')")
    with pytest.raises(IntegrityError, match="2027-12-21"):
        data_record(make_subscription(id=4), "2026-11-20T13:00:00Z", price="1")
    RefreshRun.objects.create(
        trigger="schedule", status="success", started_at=datetime(2099, 1, 1, tzinfo=UTC)
    )
    set_today(TODAY)
    assert run("reopen_days") == (
        "Today is 2026-11-20, by the clock of the database.\n"
        "Records of days from 2026-11-16 on are taken again.\n"
        "Days from 2026-11-19 on are open again.\n"
    )
    assert totals_of("usage_daily") == before
    state = UsageState.objects.get()
    assert (state.sealed_before, state.raw_kept_from) == (date(2026, 11, 19), date(2026, 11, 16))
    assert RefreshRun.objects.latest("started_at").trigger == RefreshRun.Trigger.COMMAND
    # Triggers log keys of sealed days, not of open days; both are exact after the next refresh.
    data_record(make_subscription(id=2), "2026-11-20T13:00:00Z", price="1")
    assert run_sql("SELECT count(*) FROM usage_late_key") == [(0,)]
    data_record(make_subscription(id=3), "2026-11-17T13:00:00Z", price="1")
    assert run_sql("SELECT count(*) FROM usage_late_key") == [(1,)]
    refresh_totals()
    assert totals_of("usage_daily WHERE day >= '2026-11-16'") == plain_totals()
    assert reopen().open_from is None
    set_today("2026-11-21")
    refresh_and_seal()
    assert UsageState.objects.get().sealed_before == date(2026, 11, 20)


@pytest.mark.one_server("no record comes late there")
def test_days_announced_before_they_were_opened_again_are_not_sealed(
    usage: None, set_today: SetToday
) -> None:
    """Fails when a refresh draws the fence of announced days although no trigger logs them."""
    set_today(FAR_AHEAD)
    with after(
        Step.DAY_ANNOUNCED, lambda: run_sql("SELECT setval('usage_logging_before', 0)"), once=True
    ):
        refresh_totals()
    assert UsageState.objects.get().fence_day is None


def test_records_far_in_the_future_are_deleted_and_counted(
    usage: None, set_today: SetToday
) -> None:
    subscription = make_subscription(id=2)
    kept, deleted = "2026-12-04T23:59:59Z", "2026-12-05T00:00:00Z"
    for at in [kept, deleted, "2099-12-31T10:00:00Z"]:
        data_record(subscription, at, price="7")
    refresh_totals()
    assert "Would delete 2 records of days after 2026-12-04." in run("prune_usage --dry-run")
    assert "Deleted 2 records of days after 2026-12-04." in run("prune_usage")
    assert DataUsageRecord.objects.filter(subscription=subscription).count() == 1
    refresh_totals()
    assert run_sql("SELECT day FROM usage_daily WHERE subscription_id = 2") == [
        (date(2026, 12, 4),)
    ]


def test_empty_partitions_far_ahead_are_dropped(
    usage: None, set_today: SetToday, settings: LazySettings
) -> None:
    """A clock that was ahead makes such partitions. A partition with a record is kept."""
    days = [date(2026, 12, day) for day in (4, 5, 6)]
    make_partitions(days)
    UsageState.objects.update(reached_day=TODAY)
    data_record(make_subscription(id=2), "2026-12-06T10:00:00Z")
    set_today(TODAY)
    settings.USAGE_RAW_RETENTION_DAYS = 30
    report = prune()
    assert report.partitions_dropped == [
        "usage_datausagerecord_p20261205",
        "usage_voiceusagerecord_p20261205",
        "usage_voiceusagerecord_p20261206",
    ]
    assert [partition_days(table) for table in RAW_TABLES] == [[days[0], days[2]], [days[0]]]
    assert days[0] == date.fromisoformat(TODAY) + timedelta(14)


@pytest.mark.one_server("no record comes late there")
def test_prunes_that_are_refused_do_not_move_the_day_reached(
    usage: None, set_today: SetToday
) -> None:
    """Fails when a prune moves the day reached by three days at each retry of a worker."""
    refresh_and_seal()
    prune()
    before = UsageState.objects.get().reached_day
    set_today(FAR_AHEAD)
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        for _ in range(5):
            with pytest.raises(RefreshRunningError):
                prune()
    assert UsageState.objects.get().reached_day == before


@pytest.mark.one_server("no record comes late there")
def test_days_without_raw_records_are_not_opened_again(usage: None, set_today: SetToday) -> None:
    """Fails when the totals are lost of days whose raw records a restore left out."""
    set_today(FAR_AHEAD)
    refresh_and_seal()
    set_today("2026-11-10")
    totals = run_sql("SELECT count(*), sum(total_price) FROM usage_daily")
    for (leaf,) in run_sql(
        "SELECT relid::regclass::text FROM pg_partition_tree('usage_datausagerecord')"
        " WHERE isleaf UNION ALL"
        " SELECT relid::regclass::text FROM pg_partition_tree('usage_voiceusagerecord')"
        " WHERE isleaf"
    ):
        run_sql(f"TRUNCATE {leaf}")  # past the triggers, as if a restore had left out the records
    with pytest.raises(DaysWithoutRecordsError, match="have totals but no raw record"):
        reopen()
    assert run_sql("SELECT count(*), sum(total_price) FROM usage_daily") == totals

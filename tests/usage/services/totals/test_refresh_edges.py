"""Faults before a refresh begins, and after its totals are committed."""

from collections.abc import Callable
from datetime import date
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.refresh_steps import after
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, RefreshRun, Subscription, UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import make_partitions
from usage.services.steps import Step
from usage.services.totals import refresh as refreshing
from usage.services.totals import runs, sealing
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def with_records() -> None:
    subscription = make_subscription(id=1)
    data_record(subscription, "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")


def cancelled(function: str) -> None:
    """Run a statement while another session cancels it, or ends its session."""
    pid = run_sql("SELECT pg_backend_pid()")[0][0]
    sleeps = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"

    def end() -> None:
        with second_session(autocommit=True) as session:
            wait_until(lambda: ask(session, sleeps, [pid]), what="the statement to begin")
            ask(session, f"SELECT {function}(%s)", [pid])

    with in_thread(end):
        run_sql("SELECT pg_sleep(20)")


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_run_whose_totals_are_committed_is_a_success(
    function: str, with_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the error of a VACUUM that is cancelled, or loses its session, is raised."""
    clean_up: Callable[[Any], None] = refreshing._clean_up

    def cancelled_clean_up(run: RefreshRun) -> None:
        cancelled(function)
        clean_up(run)

    monkeypatch.setattr(refreshing, "_clean_up", cancelled_clean_up)
    run = refresh(trigger=RefreshRun.Trigger.COMMAND)
    assert (run.status, run.error) == ("success", "")
    assert run.finished_at is not None
    assert "The totals are published. The cleanup afterwards failed" in run.remark
    stored = RefreshRun.objects.latest("pk")
    assert (stored.status, stored.remark) == ("success", run.remark)
    assert_exact()
    out = StringIO()
    call_command("usage_status", stdout=out)
    assert run.remark in out.getvalue()


def test_a_command_prints_the_remark(with_records: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refreshing, "_clean_up", lambda _run: cancelled("pg_cancel_backend"))
    out = StringIO()
    call_command("refresh_usage", stdout=out)
    assert "Refreshed in" in out.getvalue()
    assert "The cleanup afterwards failed" in out.getvalue()


def test_a_run_whose_row_the_database_refuses_is_explained() -> None:
    """Fails when the row of the run is written outside the code that explains errors."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_refreshrun RENAME COLUMN remark TO of_another_release")
    try:
        with pytest.raises(RefreshFailedError, match=r"could not begin.*manage\.py migrate"):
            refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    finally:
        run_sql("ALTER TABLE usage_refreshrun RENAME COLUMN of_another_release TO remark")


def test_a_refresh_by_hand_that_wrote_the_same_key_is_named(with_records: None) -> None:
    """The refresh by hand commits after the snapshot of our refresh and before its REFRESH."""
    DataUsageRecord.objects.filter(price=1).delete()
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    make_subscription(id=2)

    def refresh_by_hand() -> None:
        with second_session(autocommit=True) as session:
            ask(
                session,
                "INSERT INTO usage_datausagerecord SELECT gen_random_uuid(), 2, now(), 1, 1",
            )
            ask(session, "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open")

    data_record(Subscription.objects.get(id=2), f"{clock.now():%Y-%m-%dT%H:%M:%SZ}", price="1")
    with (
        after(Step.STATE_WRITTEN, refresh_by_hand),
        pytest.raises(RefreshFailedError, match="refreshed usage_daily_open by hand"),
    ):
        refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    refresh_totals()
    assert_exact()


@pytest.fixture
def two_days_to_seal(set_today: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepare two days to seal, each in a transaction of its own."""
    monkeypatch.setattr(sealing, "SEAL_SECONDS", -1)
    set_today("2026-11-02")
    make_partitions([date(2026, 11, day) for day in (1, 2, 3, 4)])
    subscription = make_subscription(id=1)
    for day in (1, 2, 3, 4):
        data_record(subscription, f"2026-11-0{day}T12:00:00Z", price="1")
    refresh_and_seal()
    set_today("2026-11-05")
    sealing.announce_days()


def test_a_run_that_fails_after_its_first_commit_has_published(two_days_to_seal: None) -> None:
    """Fails when the run reports that the earlier totals stay."""
    commits: list[int] = []

    def fail_in_the_second() -> None:
        if commits:
            run_sql("SELECT 1 / 0")

    with (
        after(Step.STATE_READ, fail_in_the_second),
        after(Step.COMMITTED, lambda: commits.append(1)),
    ):
        run = refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    assert run.status == "success"
    assert "The totals are published. Then the run failed: division by zero" in run.remark
    assert RefreshRun.objects.latest("pk").remark == run.remark
    assert_exact()


def test_a_run_that_loses_the_response_to_its_commit_has_published(with_records: None) -> None:
    with after(Step.COMMITTED, lambda: cancelled("pg_terminate_backend")):
        run = refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    assert (run.status, run.error) == ("success", "")
    assert "The totals are published" in run.remark
    assert_exact()


def test_a_failed_run_has_no_remark_on_changes_that_were_rolled_back(
    with_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    UsageState.objects.update(
        open_digest=None
    )  # so that the refresh adds up the months again, with a remark

    def fail(_state: UsageState, run: RefreshRun) -> None:
        assert "added up again" in run.remark
        run_sql("SELECT 1 / 0")

    with pytest.raises(RefreshFailedError):
        refresh(trigger=RefreshRun.Trigger.SCHEDULE, then=fail)
    run = RefreshRun.objects.latest("pk")
    assert (run.status, run.remark, run.as_of) == ("failed", "", None)


def test_an_end_that_cannot_be_stored_is_no_failure(
    with_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_the_connection() -> None:
        cancelled("pg_terminate_backend")

    monkeypatch.setattr(runs, "prune", lambda: None)
    monkeypatch.setattr(runs, "finish", lambda *_: lose_the_connection())
    assert refresh(trigger=RefreshRun.Trigger.SCHEDULE).status == "success"
    monkeypatch.undo()
    RefreshRun.objects.update(started_at="2026-11-01T00:00Z")
    runs.prune()
    run = RefreshRun.objects.latest("pk")
    assert (run.status, run.finished_at is not None) == ("success", True)

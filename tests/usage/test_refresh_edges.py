"""What fails before a refresh begins, and after its totals are committed."""

from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_totals
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, RefreshRun, Subscription
from usage.services import clock
from usage.services import refresh as refreshing
from usage.services.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")


@pytest.fixture
def with_records() -> None:
    subscription = make_subscription(id=1)
    data_record(subscription, "2026-11-01T12:00:00Z", price="1")
    refresh_totals()
    data_record(subscription, "2026-11-01T13:00:00Z", price="2")


def cancelled(function: str) -> None:
    """Run a statement that the server ends, or whose session it ends."""
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
    """Fails when a VACUUM that is cancelled, or loses its session, is raised as it is."""
    clean_up: Callable[[Any], None] = refreshing._clean_up

    def cancelled_clean_up(run: RefreshRun) -> None:
        cancelled(function)
        clean_up(run)

    monkeypatch.setattr(refreshing, "_clean_up", cancelled_clean_up)
    run = refresh(trigger=RefreshRun.Trigger.COMMAND)
    assert (run.status, run.error) == ("success", "")
    assert run.finished_at is not None
    assert "The totals are published. Cleaning up afterwards failed" in run.remark
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
    assert "Cleaning up afterwards failed" in out.getvalue()


def test_a_run_that_the_database_does_not_take_is_explained() -> None:
    """Fails when the row of the run is written before errors are explained."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_refreshrun RENAME COLUMN remark TO of_another_release")
    try:
        with pytest.raises(RefreshFailedError, match=r"could not begin.*manage\.py migrate"):
            refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    finally:
        run_sql("ALTER TABLE usage_refreshrun RENAME COLUMN of_another_release TO remark")


def test_a_refresh_by_hand_that_wrote_the_same_key_is_named(
    with_records: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between the snapshot of a refresh and the moment this one writes the view."""
    DataUsageRecord.objects.filter(price=1).delete()
    run_sql("REFRESH MATERIALIZED VIEW usage_daily_open")
    make_subscription(id=2)
    original = refreshing._refresh_open_view

    def refresh_after_another(*arguments: Any) -> Any:
        with second_session(autocommit=True) as session:
            ask(
                session,
                "INSERT INTO usage_datausagerecord SELECT gen_random_uuid(), 2, now(), 1, 1",
            )
            ask(session, "REFRESH MATERIALIZED VIEW CONCURRENTLY usage_daily_open")
        return original(*arguments)

    data_record(Subscription.objects.get(id=2), f"{clock.now():%Y-%m-%dT%H:%M:%SZ}", price="1")
    monkeypatch.setattr(refreshing, "_refresh_open_view", refresh_after_another)
    with pytest.raises(RefreshFailedError, match="refreshed usage_daily_open by hand"):
        refresh(trigger=RefreshRun.Trigger.SCHEDULE)
    monkeypatch.undo()
    refresh_totals()
    assert_exact()

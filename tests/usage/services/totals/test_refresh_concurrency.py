"""Refreshes together with other refreshes, readers, writers and crashes: properties 2 and 4."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now
from django.test import override_settings

from tests.connections import ask, in_thread, run_sql, second_session, wait_for_lock, wait_until
from tests.factories import refresh_totals
from tests.given import expect, given, stored_totals
from tests.refresh_steps import after
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, RefreshRun, UsageState
from usage.services.raw import locks
from usage.services.steps import Step
from usage.services.totals import tallies
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")

SCHEDULE = RefreshRun.Trigger.SCHEDULE


class Pause:
    """A pause of the first refresh after it refreshed its view and before its commit."""

    def __init__(self) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()

    def wait(self) -> None:
        self.reached.set()
        assert self.let_go.wait(10)


@contextmanager
def paused() -> Iterator[Pause]:
    """Yield the pause of the next refresh."""
    made = Pause()
    with after(Step.VIEW_REFRESHED, made.wait, once=True):
        yield made


def test_refresh_is_skipped_at_once_while_another_session_holds_the_lock() -> None:
    given("data  A  2026-11-01T10:00:00Z  1  10")
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        began = time.monotonic()
        run = refresh(trigger=SCHEDULE)
        assert time.monotonic() - began < 3
    assert run.status == "skipped"
    assert "usage_status" in run.error
    assert run.as_of is None
    assert stored_totals() == []
    expect("A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z")


def test_a_frozen_refresh_loses_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a worker that freezes in a refresh keeps its lock until somebody ends it, and when
    its run is counted twice: when it is marked lost, and when the worker continues."""
    given("data  A  2026-11-01T10:00:00Z  1  10")
    with monkeypatch.context() as patch, paused() as pause:
        patch.setattr(locks, "IDLE_REFRESH_SECONDS", 2)
        with in_thread(lambda: refresh(trigger=SCHEDULE)) as frozen:
            assert pause.reached.wait(10)
            patch.undo()
            RefreshRun.objects.update(started_at=Now() - timedelta(minutes=2))
            wait_until(
                lambda: refresh(trigger=SCHEDULE).status == "success",
                what="another refresh to take over",
            )
            pause.let_go.set()
            with pytest.raises(RefreshFailedError, match="is frozen for"):
                frozen.result()
    assert RefreshRun.objects.earliest("pk").status == "failed"
    assert tallies.read()["runs"]["failed"] == 1
    expect("A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z")


def test_a_worker_frozen_before_the_refresh_loses_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when only the transaction of the totals has a limit."""
    monkeypatch.setattr(locks, "IDLE_REFRESH_SECONDS", 0.5)
    with in_thread(hold_the_lock) as frozen:
        wait_until(locks.refresh_is_on, what="the worker to take the lock")
        wait_until(lambda: not locks.refresh_is_on(), what="the server to end its session")
        with pytest.raises(DatabaseError):
            frozen.result()


def hold_the_lock() -> None:
    with transaction.atomic():
        locks.take_refresh_lock()
        time.sleep(2)
        run_sql("SELECT 1")


def test_of_two_refreshes_at_once_one_succeeds_and_one_is_skipped() -> None:
    """Property 4. Fails when the refresh lock is not taken: the second refresh then waits."""
    with paused() as pause, in_thread(lambda: refresh(trigger=SCHEDULE).status) as first:
        assert pause.reached.wait(10)
        began = time.monotonic()
        second = refresh(trigger=SCHEDULE)
        assert time.monotonic() - began < 3
        pause.let_go.set()
        assert first.result(10) == "success"
    assert second.status == "skipped"
    assert sorted(RefreshRun.objects.values_list("status", flat=True)) == ["skipped", "success"]


def test_refreshes_that_race_never_fail() -> None:
    start = threading.Barrier(2)

    def race() -> list[str]:
        statuses = []
        for _ in range(10):
            start.wait(10)
            statuses.append(refresh(trigger=SCHEDULE).status)
        return statuses

    with in_thread(race) as first, in_thread(race) as second:
        pairs = list(zip(first.result(30), second.result(30), strict=True))
    assert all("success" in pair and set(pair) <= {"success", "skipped"} for pair in pairs)


def test_readers_keep_the_old_totals_until_the_commit() -> None:
    """Property 2. Fails when the refresh is not concurrent (then the reader waits), and when as_of
    is set in a transaction of its own."""
    given("data  A  2026-11-01T10:00:00Z  1  10")
    refresh_totals()
    given("data  A  2026-11-01T11:00:00Z  2  20")
    what_readers_see = (
        "SELECT as_of, total_price, total_usage, record_count FROM usage_state, usage_daily"
    )
    with second_session(autocommit=True) as reader, paused() as pause:
        ask(reader, "SET lock_timeout = '1s'")
        before = ask(reader, what_readers_see)
        with in_thread(refresh_totals) as refreshed:
            assert pause.reached.wait(10)
            assert ask(reader, what_readers_see) == before
            pause.let_go.set()
            run = refreshed.result(10)
        assert before[0][1:] == (1, 10, 1)
        assert ask(reader, what_readers_see) == [(run.as_of, 3, 30, 2)]


def test_readers_see_old_or_new_totals_during_twenty_refreshes() -> None:
    """Property 2. Each step moves a price of 1.00 of every subscription between two days."""
    subscriptions, steps = 500, 20
    run_sql(
        "INSERT INTO usage_datausagerecord (subscription_id, usage_date, price, kilobytes_used)"
        " SELECT number, day::timestamptz, 100, 0 FROM generate_series(1, %s) AS numbers (number),"
        " unnest(ARRAY['2026-11-01 12:00+00', '2026-11-02 12:00+00']) AS days (day)",
        [subscriptions],
    )
    as_of_by_step = {0: refresh_totals().as_of}
    stop = threading.Event()

    def read() -> list[tuple[float, tuple[object, ...]]]:
        seen = []
        with second_session(autocommit=True) as reader:
            while not stop.is_set():
                began = time.monotonic()
                rows = ask(
                    reader,
                    "SELECT as_of, count(*), sum(total_price),"
                    " min(total_price) FILTER (WHERE day = '2026-11-01'),"
                    " max(total_price) FILTER (WHERE day = '2026-11-01')"
                    " FROM usage_state, usage_daily GROUP BY as_of",
                )
                assert len(rows) == 1
                seen.append((time.monotonic() - began, rows[0]))
        return seen

    with in_thread(read) as one, in_thread(read) as another:
        try:
            for step in range(1, steps + 1):
                run_sql(
                    "UPDATE usage_datausagerecord SET price ="
                    " CASE WHEN usage_day(usage_date) = '2026-11-01' THEN 100 - %s"
                    " ELSE 100 + %s END",
                    [step, step],
                )
                as_of_by_step[step] = refresh_totals().as_of
        finally:
            stop.set()
        seen = one.result(10) + another.result(10)
    allowed = {
        (as_of, 2 * subscriptions, Decimal(200 * subscriptions), 100 - step, 100 - step)
        for step, as_of in as_of_by_step.items()
    }
    assert {row for _, row in seen} <= allowed
    assert len({row for _, row in seen}) > 1
    assert max(seconds for seconds, _ in seen) < 2


def test_open_truncate_makes_the_refresh_fail_and_the_totals_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locks, "RAW_LOCK_SECONDS", 0.2)
    monkeypatch.setattr(locks, "TRY_SECONDS", 0.05)
    given("data  A  2026-11-01T10:00:00Z  1  10")
    refresh_totals()
    totals, as_of = stored_totals(), UsageState.objects.get().as_of
    with second_session() as session:
        ask(session, "TRUNCATE usage_datausagerecord")
        with pytest.raises(RefreshFailedError, match=r"stayed locked for 0\.2 s.*TRUNCATE"):
            refresh(trigger=SCHEDULE)
        session.rollback()
    run = RefreshRun.objects.latest("id")
    assert (run.status, run.as_of) == ("failed", None)
    assert "stayed locked" in run.error
    assert stored_totals() == totals
    assert UsageState.objects.get().as_of == as_of
    expect("A  2026-11-01  data  1  10  1  2026-11-01T10:00:00Z")


def test_reload_by_truncate_is_never_seen_half() -> None:
    """Property 2. Fails when the raw tables are not locked before the snapshot: the refresh then
    sees an empty table, which was never committed."""
    given("data  A  2026-11-01T10:00:00Z  1  10")
    refresh_totals()
    process_id: list[int] = []

    def wait_and_refresh() -> str:
        process_id.append(run_sql("SELECT pg_backend_pid()")[0][0])
        return refresh(trigger=SCHEDULE).status

    with second_session() as session, second_session(autocommit=True) as observer:
        ask(
            session,
            "CREATE TEMP TABLE reload AS SELECT * FROM usage_datausagerecord;"
            " TRUNCATE usage_datausagerecord;"
            " INSERT INTO usage_datausagerecord SELECT * FROM reload;"
            " UPDATE usage_datausagerecord SET price = 7",
        )
        with in_thread(wait_and_refresh) as refreshed:
            wait_until(lambda: process_id, what="the refresh to begin")
            wait_for_lock(observer, process_id[0])
            session.commit()
            assert refreshed.result(10) == "success"
    assert run_sql("SELECT total_price FROM usage_daily") == [(7,)]


def test_refresh_whose_backend_is_terminated_leaves_the_totals() -> None:
    given("data  A  2026-11-01T10:00:00Z  1  10")
    refresh_totals()
    totals, as_of = stored_totals(), UsageState.objects.get().as_of
    given("data  A  2026-11-01T11:00:00Z  2  20")

    def die() -> None:
        with second_session(autocommit=True) as session, connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            ask(session, "SELECT pg_terminate_backend(%s)", [cursor.fetchone()[0]])

    with (
        after(Step.VIEW_REFRESHED, die),
        pytest.raises(RefreshFailedError, match=r"terminat|closed"),
    ):
        refresh(trigger=SCHEDULE)
    run = RefreshRun.objects.latest("id")
    assert (run.status, run.as_of, run.open_rows) == ("failed", None, None)
    assert run.error != ""
    assert run.finished_at is not None
    assert stored_totals() == totals
    assert UsageState.objects.get().as_of == as_of
    expect("A  2026-11-01  data  3  30  2  2026-11-01T11:00:00Z")


@override_settings(USAGE_REFRESH_TIMEOUT_SECONDS=0.3)
def test_refresh_that_takes_too_long_is_ended() -> None:
    given("data  A  2026-11-01T10:00:00Z  1  10")
    began = time.monotonic()
    with (
        after(Step.STATE_WRITTEN, lambda: run_sql("SELECT pg_sleep(20)")),
        pytest.raises(RefreshFailedError, match=r"USAGE_REFRESH_TIMEOUT_SECONDS=0\.3"),
    ):
        refresh(trigger=SCHEDULE)
    assert time.monotonic() - began < 5
    assert RefreshRun.objects.latest("id").status == "failed"
    assert stored_totals() == []
    assert run_sql("SHOW statement_timeout") == [("0",)]


def test_writers_go_on_while_a_refresh_runs() -> None:
    with paused() as pause, in_thread(refresh_totals) as refreshed:
        assert pause.reached.wait(10)
        run_sql("SET lock_timeout = '1s'")
        given("data  A  2026-11-01T10:00:00Z  1  10")
        DataUsageRecord.objects.update(price=3)
        pause.let_go.set()
        refreshed.result(10)
    run_sql("RESET lock_timeout")
    expect("A  2026-11-01  data  3  10  1  2026-11-01T10:00:00Z")

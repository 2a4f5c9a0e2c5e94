"""COPY, TRUNCATE, new partitions and prunes across a seal: properties 2, 3 and 7."""

import threading
import time
from collections.abc import Callable
from datetime import date
from io import StringIO
from typing import TextIO, cast

import psycopg2
import pytest

from tests.connections import ask, in_thread, run_sql, second_session, wait_until
from tests.exact import assert_exact, plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, refresh_totals
from tests.stepped_seal import (
    REPEATABLE_READ,
    STEPS,
    SteppedSeal,
    begin,
    is_sealed,
    write,
)
from usage.errors import RefreshFailedError, RefreshRunningError
from usage.models import RefreshRun
from usage.services.raw import locks
from usage.services.raw.partitions import make_partitions
from usage.services.totals.refresh import refresh
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("usage_of_a_day_that_is_over"),
    pytest.mark.one_server("no record comes late there"),
]

SetToday = Callable[[str], None]


class SlowFile:
    """A file for COPY FROM STDIN that returns its last lines only after let_go."""

    def __init__(self, lines_at_once: int) -> None:
        self.reached, self.let_go = threading.Event(), threading.Event()
        self.early = StringIO(
            "".join(f"{n + 10}\t2026-11-01 12:00+00\t1\n" for n in range(lines_at_once))
        )
        self.late = StringIO(
            "8\t2026-11-01 23:59:59+00\t2\n8\t2026-11-04 23:59:59+00\t4\n"
            "9\t2026-11-05 00:00+00\t8\n"
        )

    def read(self, size: int) -> str:
        if part := self.early.read(size):
            return part
        self.reached.set()
        assert self.let_go.wait(30)
        return self.late.read(size)


@pytest.mark.parametrize("lines_at_once", [1, 5_000])
@pytest.mark.parametrize("starts", range(STEPS))
def test_copy_across_midnight_and_a_seal_is_not_lost(
    lines_at_once: int, starts: int, seal: SteppedSeal, set_today: SetToday
) -> None:
    """Fails when the triggers are off. Many lines give the COPY a transaction id at once, for which
    a seal waits. A few lines stay in a buffer without an id, and the trigger at the end of the COPY
    logs their keys."""
    file = SlowFile(lines_at_once)
    with second_session() as session, second_session(autocommit=True) as observer:

        def copy() -> None:
            assert start.wait(30)
            with session.cursor() as cursor:
                cursor.copy_expert(
                    "COPY usage_datausagerecord (subscription_id, usage_date, kilobytes_used)"
                    " FROM STDIN",
                    cast(TextIO, file),
                )
            session.commit()

        def writes() -> bool:
            return ask(
                observer,
                "SELECT backend_xid IS NOT NULL FROM pg_stat_activity WHERE pid = %s",
                [session.info.backend_pid],
            ) == [(True,)]

        start = threading.Event()

        def act(step: int) -> None:
            if step == starts:
                start.set()
                assert file.reached.wait(30)
                if lines_at_once > 1:
                    wait_until(writes, what="the COPY to write")

        with in_thread(copy) as copied:
            try:
                seal.run(act)
                if lines_at_once > 1 and starts <= 2:
                    assert not is_sealed()
                else:
                    refresh_and_seal()
                    assert totals_of("usage_daily_live") == plain_totals()
                seal.step(5)
                set_today("2026-11-05")
                refresh_totals()
            finally:
                start.set()
                file.let_go.set()
            copied.result(30)
    refresh_and_seal()
    refresh_totals()
    assert run_sql("SELECT count(*) FROM usage_daily") == [(2 + lines_at_once + 3,)]
    assert_exact()


@pytest.mark.parametrize("truncates", range(STEPS))
@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_truncate_across_a_seal_is_not_lost(
    truncates: int, ending: str, seal: SteppedSeal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when TRUNCATE logs nothing, and when the raw tables are not locked first: a TRUNCATE
    after the snapshot would leave the day sealed with its old totals, or empty."""
    with second_session(autocommit=True) as session:
        ask(session, "SET lock_timeout = '100ms'")

        def act(step: int) -> None:
            if step == truncates == 4:
                # The refresh reads the tables, so a TRUNCATE waits for it.
                with pytest.raises(psycopg2.errors.LockNotAvailable):
                    ask(session, "TRUNCATE usage_datausagerecord")
            elif step == truncates:
                ask(session, "BEGIN; TRUNCATE usage_datausagerecord")

        if truncates < 4:
            monkeypatch.setattr(locks, "RAW_LOCK_SECONDS", 0.1)
            monkeypatch.setattr(locks, "TRY_SECONDS", 0.025)
            with pytest.raises(RefreshFailedError, match="stayed locked"):
                seal.run(act)
        else:
            seal.run(act)
            refresh_and_seal()
            seal.step(5)
        ask(session, ending)
    refresh_and_seal()
    refresh_totals()
    assert is_sealed()
    assert_exact()


def test_tables_truncated_one_after_the_other_do_not_deadlock() -> None:
    """Fails when a refresh locks one raw table while it waits a second or longer for the other."""
    with second_session() as session:
        ask(session, "TRUNCATE usage_voiceusagerecord")
        with in_thread(refresh_totals) as refreshed:
            time.sleep(1.2)
            ask(session, "TRUNCATE usage_datausagerecord")
            session.commit()
            assert refreshed.result(30).status == RefreshRun.Status.SUCCESS
    assert_exact()


def test_truncate_in_repeatable_read_is_refused() -> None:
    """Its snapshot may lack sealed days, so the trigger could not log their keys."""
    refresh_and_seal()
    with second_session(autocommit=True) as session:
        begin(session, REPEATABLE_READ)
        with pytest.raises(psycopg2.errors.InvalidTransactionState, match="READ COMMITTED only"):
            ask(session, "TRUNCATE usage_datausagerecord")
    refresh_totals()
    assert_exact()


def test_partition_made_between_the_fence_and_the_seal_is_sealed(seal: SteppedSeal) -> None:
    def act(step: int) -> None:
        if step == 3:
            make_partitions([date(2026, 11, 2)])
            data_record(make_subscription(id=3), "2026-11-02T12:00:00Z", price="2")
        if step == 4:
            with second_session() as session:
                ask(session, "SET lock_timeout = '1s'")
                write(session)
                session.commit()

    seal.run(act)
    refresh_and_seal()
    refresh_totals()
    assert is_sealed()
    assert_exact()


def test_maintenance_and_prune_wait_their_turn_while_a_day_is_sealed(
    seal: SteppedSeal, set_today: SetToday
) -> None:
    """They are skipped while a refresh holds the lock. Before and after it a prune changes no
    total."""
    refresh_and_seal()
    seal.passed.clear()
    set_today("2026-11-09")
    refused: list[type] = []

    def act(step: int) -> None:
        if step == 3:
            prune()
        if step == 4:
            for work in (prune, lambda: make_partitions([date(2026, 11, 20)])):
                with in_thread(work) as running:
                    refused.append(type(running.exception(30)))

    before = totals_of("usage_daily")
    seal.run(act)
    assert refused == [RefreshRunningError, RefreshRunningError]
    refresh_and_seal()
    assert totals_of("usage_daily") == before
    prune()
    assert totals_of("usage_daily") == before
    assert run_sql("SELECT count(*) FROM usage_datausagerecord") == [(0,)]
    assert refresh(trigger=RefreshRun.Trigger.COMMAND).keys_repaired == 0

"""A raw table is locked while a refresh begins: the refresh tries again, and every total stays
exact, also those of months.

The tests fail when a savepoint stays open after the tries: rows written in a subtransaction do not
carry the transaction id by which the refresh looks for them.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.connections import ask, in_thread, run_sql, second_session, wait_for_lock, wait_until
from tests.exact import assert_exact
from tests.factories import data_record, make_subscription, refresh_totals
from usage.models import RefreshRun, UsageState
from usage.services.raw import locks
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")

# Long enough for one try to fail, with room for a busy machine.
LOCKED_SECONDS = locks.TRY_SECONDS * 1.5


@contextmanager
def locked_while_a_refresh_begins(table: str) -> Iterator[None]:
    """Let another session lock the table until one try of the refresh in the block has failed."""
    with second_session() as holder, second_session(autocommit=True) as watcher:
        ask(holder, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")

        def let_go() -> None:
            (process_id,) = wait_until(
                lambda: next(iter(ask(watcher, WAITING, [table])), None),
                what=f"a refresh to wait for {table}",
            )
            wait_for_lock(watcher, process_id)
            time.sleep(LOCKED_SECONDS)
            holder.rollback()

        with in_thread(let_go) as released:
            yield
            released.result(30)


WAITING = """
    SELECT pid FROM pg_locks
    WHERE relation = %s::regclass AND NOT granted AND mode = 'AccessShareLock'
"""


@pytest.mark.parametrize("table", ["usage_datausagerecord", "usage_voiceusagerecord"])
def test_months_follow_a_refresh_that_waited_for_a_raw_table(table: str) -> None:
    subscription = make_subscription(id=1)
    data_record(subscription, "2026-11-14T10:00:00Z", price="1000", kilobytes=1)
    refresh_totals()
    data_record(subscription, "2026-11-14T11:00:00Z", price="2000", kilobytes=2)
    with locked_while_a_refresh_begins(table):
        run = refresh_totals()
    assert run.rows_changed == 1
    assert run_sql("SELECT DISTINCT total_price FROM usage_period_total") == [(3000,)]
    assert_exact()


def test_months_count_a_day_once_that_is_sealed_after_such_a_lock(
    set_today: Callable[[str], None],
) -> None:
    set_today("2026-11-14")
    subscription = make_subscription(id=1)
    data_record(subscription, "2026-11-14T10:00:00Z", price="7175", kilobytes=1)
    refresh_totals()
    set_today("2026-11-16")
    sealed = UsageState.objects.filter(sealed_before="2026-11-15")
    while not sealed.exists():
        with locked_while_a_refresh_begins("usage_voiceusagerecord"):
            refresh(trigger=RefreshRun.Trigger.COMMAND)
    assert run_sql("SELECT DISTINCT total_price FROM usage_period_total") == [(7175,)]
    assert_exact()

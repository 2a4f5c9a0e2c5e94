"""A killed refresh leaves the old totals and the log, and the next refresh is exact."""

import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import pytest
from django.db import Error, connection

from tests.connections import ask, in_thread, run_sql, second_session
from tests.exact import Rows, assert_exact, plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from tests.refresh_steps import BEFORE_COMMIT, after
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, LateKey, RefreshRun, Subscription, UsageState
from usage.services.steps import Step
from usage.services.totals.refresh import refresh
from usage.services.totals.retention import prune

pytestmark = [
    pytest.mark.usefixtures("state"),
    pytest.mark.one_server("no record comes late there"),
]

SetToday = Callable[[str], None]
SCHEDULE = RefreshRun.Trigger.SCHEDULE


@pytest.fixture
def work_to_do(state: None, set_today: SetToday) -> None:
    """Make a late record, a late deletion, a new record of today, and a day to seal."""
    set_today("2026-11-04")
    for pk in (1, 2, 3):
        for day in (1, 3, 4):
            data_record(make_subscription_once(pk), f"2026-11-0{day}T12:00:00Z", price="1.5")
    refresh_and_seal()
    data_record(make_subscription_once(1), "2026-11-01T13:00:00Z", price="2")
    DataUsageRecord.objects.filter(subscription_id=2, usage_date__lt="2026-11-02T00:00Z").delete()
    voice_record(make_subscription_once(3), "2026-11-04T13:00:00Z", price="4")
    set_today("2026-11-05")


def make_subscription_once(pk: int) -> Subscription:
    return Subscription.objects.filter(pk=pk).first() or make_subscription(id=pk)


def pid() -> int:
    process_id: int = run_sql("SELECT pg_backend_pid()")[0][0]
    return process_id


def kill_own_backend() -> None:
    process_id = pid()
    with second_session(autocommit=True) as session:
        ask(session, "SELECT pg_terminate_backend(%s, 5000)", [process_id])


def kill_soon(process_id: int, started: threading.Event) -> None:
    with second_session(autocommit=True) as session:
        started.set()
        ask(session, "SELECT pg_sleep(%s)", [random.uniform(0, 0.04)])
        ask(session, "SELECT pg_terminate_backend(%s)", [process_id])


def stored_state() -> tuple[Rows, Rows, Rows]:
    return (
        totals_of("usage_daily"),
        run_sql("SELECT * FROM usage_late_key ORDER BY 1, 2, 3"),
        run_sql("SELECT as_of, sealed_before, raw_kept_from FROM usage_state"),
    )


@pytest.mark.parametrize("step", [*BEFORE_COMMIT, None])
@pytest.mark.usefixtures("work_to_do")
def test_refresh_killed_after_any_step_leaves_the_old_totals_and_the_log(step: Step | None) -> None:
    """Fails when a transaction other than that of the view deletes late keys, seals a day or sets
    as_of."""
    before = stored_state()
    then = None
    with ExitStack() as stack:
        if step is not None:
            stack.enter_context(after(step, kill_own_backend))
        else:

            def then(_state: UsageState, _run: RefreshRun) -> None:
                kill_own_backend()

        with pytest.raises(RefreshFailedError, match=r"terminat|closed"):
            refresh(trigger=SCHEDULE, then=then)
    assert stored_state() == before
    assert totals_of("usage_daily_live") == plain_totals()
    run = RefreshRun.objects.latest("id")
    assert (run.status, run.keys_repaired, run.days_sealed, run.as_of) == ("failed", 0, 0, None)
    refresh_and_seal()
    assert UsageState.objects.get().sealed_before == UsageState.objects.get().fence_day
    assert LateKey.objects.count() == 0
    assert_exact()


@pytest.mark.usefixtures("work_to_do")
def test_refresh_killed_at_any_moment_is_whole_or_nothing() -> None:
    """Fails like the test above. The moments are random, so a kill may hit a running statement."""
    outcomes = []
    for number in range(25):
        data_record(make_subscription_once(1), f"2026-11-01T14:00:{number:02}Z", price="1")
        old, new = totals_of("usage_daily"), plain_totals()
        started = threading.Event()

        with in_thread(partial(kill_soon, pid(), started)) as killed:
            started.wait(10)
            try:
                refresh(trigger=SCHEDULE)
            except RefreshFailedError:
                outcomes.append("failed")
            except Error:
                outcomes.append("killed before or after the refresh proper")
            killed.result(10)
        # Django notices a killed session only at the next statement.
        connection.close()
        assert totals_of("usage_daily") in (old, new)
        assert totals_of("usage_daily_live") == new
    assert "failed" in outcomes
    refresh_and_seal()
    assert_exact()


@pytest.mark.usefixtures("work_to_do")
def test_prune_killed_while_it_refreshes_continues_later(
    set_today: SetToday,
) -> None:
    set_today("2026-11-07")
    refresh_and_seal()
    data_record(make_subscription_once(3), "2026-11-03T13:00:00Z", price="8")
    before, expected = stored_state(), plain_totals()
    with (
        after(Step.KEYS_REPAIRED, kill_own_backend),
        pytest.raises(RefreshFailedError),
    ):
        prune()
    assert stored_state() == before
    prune()
    assert totals_of("usage_daily") == expected
    assert plain_totals() == [row for row in expected if row[1].day >= 3]

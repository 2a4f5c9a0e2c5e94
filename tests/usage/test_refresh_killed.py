"""A refresh that is killed leaves the old totals and the log, and the next one converges."""

import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import Error, connection

from tests.connections import ask, in_thread, run_sql, second_session
from tests.exact import Rows, assert_exact, plain_totals, totals_of
from tests.factories import data_record, make_subscription, refresh_and_seal, voice_record
from usage.errors import RefreshFailedError
from usage.models import DataUsageRecord, LateKey, RefreshRun, Subscription, UsageState
from usage.services import periods, repair, sealing
from usage.services import refresh as refreshing
from usage.services.refresh import refresh
from usage.services.retention import prune

pytestmark = pytest.mark.usefixtures("state")

SetToday = Callable[[str], None]
SCHEDULE = RefreshRun.Trigger.SCHEDULE
PHASES = {
    "day announced": (sealing, "move_forward"),
    "fence drawn": (sealing, "draw_fence"),
    "locks taken": (refreshing, "begin_totals"),
    "late keys repaired": (repair, "repair_late_keys"),
    "day sealed": (sealing, "seal"),
    "view refreshed": (refreshing, "_refresh_open_view"),
    "period totals kept": (periods, "apply_changes"),
    "before commit": (RefreshRun, "save"),
}


@pytest.fixture
def work_to_do(state: None, set_today: SetToday) -> None:
    """A late record, a late deletion, a new record of today, and a day to seal."""
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


def what_is_there() -> tuple[Rows, Rows, Rows]:
    return (
        totals_of("usage_daily"),
        run_sql("SELECT * FROM usage_late_key ORDER BY 1, 2, 3"),
        run_sql("SELECT as_of, sealed_before, raw_kept_from FROM usage_state"),
    )


@pytest.mark.parametrize("phase", [*PHASES, "rows counted"])
@pytest.mark.usefixtures("work_to_do")
def test_refresh_killed_after_any_phase_leaves_the_old_totals_and_the_log(
    phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when late keys are deleted, a day is sealed or as_of is set in a transaction other
    than that of the view."""
    before = what_is_there()
    then = None
    with monkeypatch.context() as patch:
        if phase in PHASES:
            owner, name = PHASES[phase]
            original = getattr(owner, name)

            def work_and_die(*arguments: Any, **options: Any) -> Any:
                answer = original(*arguments, **options)
                if owner is not RefreshRun or "update_fields" in options:
                    kill_own_backend()
                return answer

            patch.setattr(owner, name, work_and_die)
        else:

            def then(_state: UsageState, _run: RefreshRun) -> None:
                kill_own_backend()

        with pytest.raises(RefreshFailedError, match=r"terminat|closed"):
            refresh(trigger=SCHEDULE, then=then)
    assert what_is_there() == before
    assert totals_of("usage_daily_live") == plain_totals()
    run = RefreshRun.objects.latest("id")
    assert (run.status, run.keys_repaired, run.days_sealed, run.as_of) == ("failed", 0, 0, None)
    refresh_and_seal()
    assert UsageState.objects.get().sealed_before == UsageState.objects.get().fence_day
    assert LateKey.objects.count() == 0
    assert_exact()


@pytest.mark.usefixtures("work_to_do")
def test_refresh_killed_at_any_moment_is_whole_or_nothing() -> None:
    """Fails as above; the moments are random and may fall into the middle of a statement."""
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
        # Django notices a killed session at the next statement only.
        connection.close()
        assert totals_of("usage_daily") in (old, new)
        assert totals_of("usage_daily_live") == new
    assert "failed" in outcomes
    refresh_and_seal()
    assert_exact()


@pytest.mark.usefixtures("work_to_do")
def test_prune_killed_while_it_refreshes_goes_on_later(
    set_today: SetToday, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_today("2026-11-07")
    with monkeypatch.context() as patch:
        original = repair.repair_late_keys

        def repair_and_die(state: UsageState) -> int:
            repaired = original(state)
            kill_own_backend()
            return repaired

        refresh_and_seal()
        data_record(make_subscription_once(3), "2026-11-03T13:00:00Z", price="8")
        patch.setattr(repair, "repair_late_keys", repair_and_die)
        before, expected = what_is_there(), plain_totals()
        with pytest.raises(RefreshFailedError):
            prune()
        assert what_is_there() == before
    prune()
    assert totals_of("usage_daily") == expected
    assert plain_totals() == [row for row in expected if row[1].day >= 3]

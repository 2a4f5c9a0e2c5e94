"""The history of refreshes: the columns of a run, lost runs, and how long runs are kept."""

from datetime import timedelta

import pytest
from django.utils import timezone

from tests.connections import ask, second_session
from tests.factories import refresh_totals
from tests.given import given
from usage.models import RefreshRun, UsageState
from usage.services.totals import runs
from usage.services.totals.refresh import refresh

pytestmark = pytest.mark.usefixtures("state")

Status = RefreshRun.Status


def past_run(status: Status = Status.SUCCESS, **ago: float) -> RefreshRun:
    """Make a run that began that long ago."""
    started_at = timezone.now() - timedelta(**ago)
    return RefreshRun.objects.create(
        trigger=RefreshRun.Trigger.SCHEDULE,
        status=status,
        started_at=started_at,
        finished_at=None if status == Status.RUNNING else started_at,
    )


def test_run_records_its_trigger_result_and_phases() -> None:
    given("""
        data   A  2026-11-01T10:00:00Z  1  10
        voice  A  2026-11-01T10:00:00Z  1  10
    """)
    run = refresh(trigger=RefreshRun.Trigger.API)
    assert run == RefreshRun.objects.get()
    assert (run.trigger, run.status, run.error, run.open_rows) == ("api", "success", "", 2)
    assert run.as_of == UsageState.objects.get().as_of
    assert run.finished_at is not None
    assert run.as_of is not None
    assert run.started_at <= run.as_of <= run.finished_at
    assert run.seconds is not None
    assert {"lock", "view", "commit", "vacuum"} <= set(run.phases)
    assert 0 <= sum(run.phases.values()) <= run.seconds + 0.01
    assert str(run).startswith("success refresh of 2")


def test_runs_are_kept_for_ninety_days() -> None:
    old = past_run(days=91)
    young = past_run(days=89)
    run = refresh_totals()
    assert set(RefreshRun.objects.all()) == {young, run}
    assert not RefreshRun.objects.filter(pk=old.pk).exists()


def test_only_the_newest_runs_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (runs.KEEP_DAYS, runs.KEEP_RUNS) == (90, 100_000)
    monkeypatch.setattr(runs, "KEEP_RUNS", 3)
    earlier = [past_run(minutes=minutes) for minutes in [5, 4, 3, 2]]
    run = refresh_totals()
    assert set(RefreshRun.objects.all()) == {*earlier[-2:], run}
    assert runs.prune() == 0


def test_failed_and_skipped_runs_are_kept_as_long() -> None:
    kept = [past_run(status, days=89) for status in [Status.FAILED, Status.SKIPPED]]
    for status in [Status.FAILED, Status.SKIPPED]:
        past_run(status, days=91)
    run = refresh_totals()
    assert set(RefreshRun.objects.all()) == {*kept, run}


def test_run_whose_process_ended_is_marked_failed() -> None:
    lost = past_run(Status.RUNNING, minutes=2)
    young = past_run(Status.RUNNING, seconds=30)
    refresh_totals()
    lost.refresh_from_db()
    young.refresh_from_db()
    assert lost.status == "failed"
    assert lost.finished_at is not None
    assert "process ended or was frozen" in lost.error
    assert young.status == "running"


def test_long_run_that_holds_the_lock_is_not_marked() -> None:
    """Fails when only the age counts: the update then conflicts with the update at the end of the
    run, and the work of an hour is lost."""
    long = past_run(Status.RUNNING, minutes=2)
    with second_session() as session:
        ask(session, "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE")
        runs.prune()
        long.refresh_from_db()
        assert long.status == "running"
    runs.prune()
    long.refresh_from_db()
    assert long.status == "failed"

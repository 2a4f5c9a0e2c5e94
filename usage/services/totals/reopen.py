"""Recovery from a clock that was ahead: open the days again that it sealed or closed.

Dropped records do not come back. Their days and the totals of these days stay as they are.
"""

from dataclasses import dataclass
from datetime import date, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from usage.database.startup import compare_settings
from usage.errors import DaysWithoutRecordsError, RefreshPausedError
from usage.models import RefreshRun, UsageState
from usage.services.capture.sequences import DAY_ZERO, is_closing, move_back
from usage.services.capture.strategies import capture_of, close_days
from usage.services.raw import clock
from usage.services.raw.locks import begin_without_writers, take_refresh_lock
from usage.services.totals import open_view, periods
from usage.services.totals.changes import Changes
from usage.services.totals.days import days_without_records
from usage.services.totals.refresh import refresh_now
from usage.sql import queries


@dataclass(frozen=True)
class Reopened:
    """The result of reopen(): the first day that is no longer sealed, and the first day that is
    open to writers again; None if nothing was ahead. `today` is the day of the clock."""

    today: date
    open_from: date | None
    writable_from: date | None


def reopen() -> Reopened:
    """Open every day again that was sealed or closed only because the clock was ahead; then
    refresh.

    Writers of raw records wait for about as long as a refresh takes, readers of totals do not.
    Raises RefreshRunningError while a refresh runs. If it is interrupted, run it again.
    """
    today = clock.today()
    with transaction.atomic(durable=True):
        begin_without_writers()
        state = UsageState.objects.get()
        compare_settings(state)
        if state.paused_at is not None:
            raise RefreshPausedError(
                "Refreshes are paused. Nothing was changed. Run first: manage.py resume_refresh"
            )
        writable_from = _end_closing(state)
        open_from = _unseal(state, today)
        state.reached_day = min(state.reached_day or today, today)
        state.save()
        # Runs dated in the future would be shown as the latest until that time.
        RefreshRun.objects.filter(started_at__gt=Now()).delete()
    # A rollback does not undo a move of a sequence, so the sequences move after the commit. Until
    # then triggers log more than necessary.
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        logging_before = max(state.sealed_before or DAY_ZERO, state.fence_day or DAY_ZERO)
        move_back("usage_logging_before", logging_before)
        move_back("usage_raw_kept_from", state.raw_kept_from or DAY_ZERO)
    refresh_now(RefreshRun.Trigger.COMMAND)
    return Reopened(today, open_from, writable_from)


def _end_closing(state: UsageState) -> date | None:
    """Cancel the closing of days whose records are not dropped yet; return the first of them."""
    if not is_closing(state):
        return None
    state.raw_fence = None
    if state.is_window:
        state.fence_day = None
        close_days(state.raw_kept_from)
    return state.raw_kept_from or DAY_ZERO


def _unseal(state: UsageState, today: date) -> date | None:
    """Open the days again that USAGE_OPEN_DAYS keeps open today; return the first of them. In a
    window every sealed day is final."""
    if settings.USAGE_OPEN_DAYS is None or capture_of(state).sealed_days_are_final:
        return None
    first = max(today - timedelta(settings.USAGE_OPEN_DAYS - 1), state.raw_kept_from or date.min)
    if (state.fence_day or date.min) > first:
        state.fence = state.fence_day = None
    if (state.sealed_before or date.min) <= first:
        return None
    if without := days_without_records(first, state.sealed_before or date.min):
        raise DaysWithoutRecordsError(
            f"{len(without)} of the days to open have totals but no raw record; the first is "
            f"{without[0][0]}. If they were opened, their totals would be lost. Nothing was "
            "changed. Run: manage.py check_restore"
        )
    is_filled = state.open_digest is not None
    Changes()  # makes the temporary table that add_up_again() needs
    with connection.cursor() as cursor:
        cursor.execute(queries.read("delete_sealed_from"), {"first_day": first})
    state.sealed_before = first
    state.save()
    state.open_digest = open_view.refresh().fingerprint
    if is_filled:
        periods.add_up_again(first)
    else:
        periods.fill()
    return first

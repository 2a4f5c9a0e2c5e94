"""Retention: drop raw records whose totals are sealed, without losing a change.

The order is refuse, fence, repair, drop. A prune closes the days to writers. It waits until all
transactions that began before have ended. A refresh repairs their changes. Then the prune empties
and drops the partitions. If a step is interrupted, the next prune continues there.
"""

import logging
from datetime import date, timedelta
from functools import partial

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from usage.models import RefreshRun, UsageState
from usage.services.capture import triggers
from usage.services.capture.sequences import closed_until, is_closing
from usage.services.capture.strategies import capture_of
from usage.services.raw import reached_day
from usage.services.raw.future_days import delete_future_records, drop_future_partitions
from usage.services.raw.locks import retry_locked, take_refresh_lock
from usage.services.raw.partitions import DAYS_AHEAD
from usage.services.raw.reached_day import ReachedDay
from usage.services.steps import Step, done
from usage.services.totals import periods
from usage.services.totals.changes import Changes
from usage.services.totals.closing import close, wait_for_fence
from usage.services.totals.dropping import (
    PruneReport,
    count_strays,
    delete_strays,
    drop_closed_partitions,
    empty_days,
    names_before,
    refuse_without_triggers,
)
from usage.services.totals.refresh import refresh_now
from usage.sql import queries

logger = logging.getLogger(__name__)


def prune(*, dry_run: bool = False, days_passed: bool = False) -> PruneReport:
    """Drop raw records older than USAGE_RAW_RETENTION_DAYS, or dated as far in the future, and
    totals older than USAGE_TOTALS_RETENTION_DAYS.

    A call moves the day reached by at most three days, unless `days_passed` confirms that the clock
    is right. Raises RefreshRunningError while a refresh runs; the next call continues where this
    one stopped.
    """
    reached = reached_day.next_step(UsageState.objects.get(), days_passed=days_passed)
    report = PruneReport(first_kept_day=_first_kept_day(reached.day))
    _report_if_held(report, reached)
    if report.first_kept_day is not None:
        if dry_run:
            report.partitions_dropped = names_before(report.first_kept_day)
            report.strays_deleted = count_strays(report.first_kept_day)
        else:
            _prune_raw(report)
    if (days := settings.USAGE_RAW_RETENTION_DAYS) is not None:
        report.future_after = max(reached.day, reached.today) + timedelta(max(days, DAYS_AHEAD))
        report.future_deleted = delete_future_records(report.future_after, dry_run=dry_run)
    if not dry_run:
        report.partitions_dropped += drop_future_partitions(max(reached.day, reached.today))
    if (days := settings.USAGE_TOTALS_RETENTION_DAYS) is not None:
        _prune_totals(report, reached.day - timedelta(days - 1), dry_run=dry_run)
    if not dry_run and not report.waits_for:
        reached_day.store(reached)
    return report


def _report_if_held(report: PruneReport, reached: ReachedDay) -> None:
    if reached.days_left and settings.USAGE_RAW_RETENTION_DAYS is not None:
        report.held = str(reached)
        logger.warning("%s", report.held)


def _first_kept_day(today: date) -> date | None:
    """Return the first day whose raw records must be kept; None if no day may be dropped."""
    state = UsageState.objects.get()
    if capture_of(state).sealed_days_are_final:
        return state.raw_kept_from
    if settings.USAGE_RAW_RETENTION_DAYS is None or state.sealed_before is None:
        # A pending closing is finished anyway; otherwise its days would refuse records forever.
        return closed_until() if is_closing(state) else None
    refuse_without_triggers(triggers.faults())
    wanted = today - timedelta(settings.USAGE_RAW_RETENTION_DAYS - 1)
    # An unaudited day still needs its raw records.
    return min([wanted, state.sealed_before, *state.unaudited])


def _prune_raw(report: PruneReport) -> None:
    assert report.first_kept_day is not None  # noqa: S101 - the caller checked
    if capture_of(UsageState.objects.get()).sealed_days_are_final:
        # The refresh closed these days before it sealed them, so no late key is left to repair.
        retry_locked(partial(delete_strays, report.first_kept_day, report))
        drop_closed_partitions(report)
        return
    first_kept = report.first_kept_day = close(report.first_kept_day)
    if first_kept > (UsageState.objects.get().raw_kept_from or date.min):
        report.waits_for = wait_for_fence()
        if report.waits_for:
            return
        done(Step.PRUNE_WAITED)
        # This refresh repairs what was written before the days were closed.
        refresh_now(RefreshRun.Trigger.RETENTION)
        if not empty_days(first_kept, report):
            return
    drop_closed_partitions(report)


def _prune_totals(report: PruneReport, end: date, *, dry_run: bool) -> None:
    raw_kept_from = UsageState.objects.values_list("raw_kept_from", flat=True).get()
    if dry_run:
        raw_kept_from = report.first_kept_day
    # Totals whose raw records are kept would return with the next repair.
    end = min(end, raw_kept_from or date.min)
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        if dry_run:
            cursor.execute(queries.read("count_totals_before"), {"end_day": end})
            (report.totals_deleted,) = cursor.fetchone()
            return
        take_refresh_lock()
        changes = Changes()
        cursor.execute(queries.read("delete_totals_before"), {"end_day": end})
        report.totals_deleted, fingerprint, first_day = cursor.fetchone()
        if first_day is not None:
            changes.add_written(fingerprint, first_day)
        periods.apply_changes(changes)
        UsageState.objects.update(as_of=F("as_of"))  # a new row version changes ETags

"""Retention: drop raw records whose totals are sealed, without losing a change.

The order is refuse, fence, repair, drop. A prune closes the days to writers. It waits until all
transactions that began before have ended. A refresh repairs their changes. Then the prune empties
and drops the partitions. If a step is interrupted, the next prune continues there.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from psycopg2 import sql

from usage.errors import CaptureOffError, RefreshPausedError, RefreshRunningError
from usage.models import RAW_TABLES, LateKey, RefreshRun, UsageState
from usage.services import periods, reached_day, triggers
from usage.services.changes import Changes
from usage.services.fences import (
    Blocker,
    blockers,
    draw_fence,
    has_passed,
    is_from_another_server,
)
from usage.services.future_days import delete_future_records, drop_future_partitions
from usage.services.locks import lock_raw_tables, retry_locked, take_refresh_lock
from usage.services.partitions import (
    DAYS_AHEAD,
    LOCK_MILLISECONDS,
    TRIES,
    Leaf,
    day_partitions,
    default_partition,
    partition_days,
)
from usage.services.reached_day import ReachedDay
from usage.services.refresh import refresh_now
from usage.services.sequences import DAY_ZERO, day_of, move_forward
from usage.services.startup import compare_settings
from usage.sql import queries

logger = logging.getLogger(__name__)

FENCE_SECONDS = 10.0

# The most days whose partitions one transaction empties: each lock takes room in the lock table,
# which all databases of the server share.
DAYS_EMPTIED_AT_ONCE = 50


@dataclass
class PruneReport:
    """The result of a prune or, with dry_run, what it would do.

    `held` says why the prune did not reach the day of the clock; it is empty if it did.
    """

    first_kept_day: date | None = None
    partitions_dropped: list[str] = field(default_factory=list)
    partitions_left: list[str] = field(default_factory=list)
    strays_deleted: int = 0
    future_deleted: int = 0
    future_after: date | None = None
    totals_deleted: int = 0
    held: str = ""
    waits_for: list[Blocker] = field(default_factory=list)


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
            report.partitions_dropped = _names_before(report.first_kept_day)
            report.strays_deleted = _count_strays(report.first_kept_day)
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
    if state.is_window:
        return state.raw_kept_from
    if settings.USAGE_RAW_RETENTION_DAYS is None or state.sealed_before is None:
        # A pending closing is finished anyway; otherwise its days would refuse records forever.
        return closed_until() if is_closing(state) else None
    _refuse_without_triggers(triggers.faults())
    wanted = today - timedelta(settings.USAGE_RAW_RETENTION_DAYS - 1)
    # An unaudited day still needs its raw records.
    return min([wanted, state.sealed_before, *state.unaudited])


def _refuse_without_triggers(faults: list[str]) -> None:
    if faults:
        raise CaptureOffError(f"Nothing is dropped, since {', '.join(faults)}: {triggers.ADVICE}")


def _prune_raw(report: PruneReport) -> None:
    assert report.first_kept_day is not None  # noqa: S101 - the caller checked
    if UsageState.objects.get().is_window:
        # In a window the refresh closes days before it seals them.
        _retry_locked(partial(_delete_strays, report.first_kept_day, report))
        _drop_closed_partitions(report)
        return
    first_kept = _close(report.first_kept_day)
    report.first_kept_day = first_kept
    if first_kept > (UsageState.objects.get().raw_kept_from or date.min):
        report.waits_for = _wait_for_fence()
        if report.waits_for:
            return
        # This refresh repairs what was written before the days were closed.
        refresh_now(RefreshRun.Trigger.RETENTION)
        for end in _ends_of_steps(first_kept):
            if not _retry_locked(partial(_empty, end, report)):
                report.partitions_left = _names_before(first_kept)
                logger.warning(
                    "Partitions of the days to drop stayed locked; the next prune drops them."
                )
                return
    _drop_closed_partitions(report)


def _close(first_kept: date) -> date:
    """Close the days before first_kept, then draw the fence; return the first day not closed.

    A pending closing keeps its fence: a new fence at each call would never pass.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        # Days that are closed stay closed, so the settings must be those of this database.
        compare_settings(state)
        if state.paused_at is not None:
            # Closed days must be repaired by a refresh before they are dropped.
            raise RefreshPausedError(
                f"Refreshes are paused since {state.paused_at:%Y-%m-%d %H:%M:%S} UTC, and no day "
                "can be dropped without one. Nothing was changed. Run: manage.py resume_refresh, "
                "then: manage.py prune_usage"
            )
        closed_before = closed_until()
        is_pending = is_closing(state)
        if is_pending and not is_from_another_server(state.raw_fence):
            return closed_before
        if not is_pending and first_kept <= (state.raw_kept_from or date.min):
            return state.raw_kept_from or first_kept
        move_forward("usage_raw_kept_from", first_kept)
    with transaction.atomic(durable=True):
        take_refresh_lock()
        if is_closing(UsageState.objects.get()):  # False if another prune has ended the closing
            UsageState.objects.update(raw_fence=draw_fence())
    return max(first_kept, closed_before)


def is_closing(state: UsageState) -> bool:
    """Return whether a closing is pending: closed days whose raw records are not dropped yet."""
    return closed_until() > (state.raw_kept_from or DAY_ZERO)


def closed_until() -> date:
    """Return the first day that is neither closed nor about to be closed."""
    return day_of("usage_raw_kept_from")


def _wait_for_fence() -> list[Blocker]:
    """Wait up to FENCE_SECONDS for the fence; return the transactions that still block it."""
    deadline = time.monotonic() + FENCE_SECONDS
    while True:
        with transaction.atomic():
            fence = UsageState.objects.values_list("raw_fence", flat=True).get()
            # None means that another prune has ended the closing.
            if fence is None or has_passed(fence):
                return []
            waits_for = blockers(fence)
        if time.monotonic() > deadline:
            return waits_for
        time.sleep(0.1)


def _ends_of_steps(first_kept: date) -> list[date]:
    """Return the day up to which each transaction empties partitions; the last is first_kept."""
    days = sorted(
        {day for table in RAW_TABLES for day in partition_days(table) if day < first_kept}
    )
    return [*days[DAYS_EMPTIED_AT_ONCE::DAYS_EMPTIED_AT_ONCE], first_kept]


def _empty(first_kept: date, report: PruneReport) -> None:
    """Empty the closed days before first_kept in one transaction.

    From its commit on, no repair, rebuild, audit or live view reads these days.
    """
    state = UsageState.objects.get()
    if state.raw_fence is None or first_kept <= (state.raw_kept_from or date.min):
        return  # another prune has emptied them
    _refuse_without_triggers(triggers.look(state))
    if any(day < first_kept for day in state.unaudited):
        raise RefreshRunningError(
            f"Triggers on raw tables were off or changed, so days before {first_kept} must be "
            "audited before they are dropped. Each refresh audits one day: run prune_usage again. "
            "usage_status lists these days. The remark of a run names days without raw records."
        )
    if first_kept > (state.sealed_before or date.min):
        raise RefreshRunningError(
            f"Days before {first_kept} are closed, but only days before {state.sealed_before} are "
            "sealed. Raw records stay until their day is sealed: run refresh_usage, then "
            "prune_usage again."
        )
    # Waits for a TRUNCATE of a whole table, so that the keys it logs are seen below.
    lock_raw_tables("ACCESS SHARE")
    with connection.cursor() as cursor:
        for leaf in _partitions_before(first_kept):
            cursor.execute(
                sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(leaf.identifier)
            )
        if _late_keys_before(first_kept):
            # They were logged after the repair, so another refresh must repair them first.
            raise RefreshRunningError(
                "Raw records of the days to drop changed a moment ago. Run prune_usage again."
            )
        for leaf in _partitions_before(first_kept):
            cursor.execute(sql.SQL("TRUNCATE {}").format(leaf.identifier))
    _delete_strays(first_kept, report)
    UsageState.objects.update(
        raw_kept_from=first_kept,
        raw_fence=None if first_kept >= closed_until() else state.raw_fence,
    )


def _delete_strays(first_kept: date, report: PruneReport) -> None:
    """Delete records of closed days from the default partitions."""
    strays_deleted = 0
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            # A DELETE from the partition itself fires no trigger, so it is not a correction.
            cursor.execute(
                sql.SQL("DELETE FROM {} WHERE usage_day(usage_date) < %s").format(
                    default_partition(table).identifier
                ),
                [first_kept],
            )
            strays_deleted += cursor.rowcount
    report.strays_deleted += strays_deleted


def _count_strays(first_kept: date) -> int:
    count = 0
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            cursor.execute(
                sql.SQL("SELECT count(*) FROM {} WHERE usage_day(usage_date) < %s").format(
                    default_partition(table).identifier
                ),
                [first_kept],
            )
            count += cursor.fetchone()[0]
    return count


def _late_keys_before(first_kept: date) -> bool:
    state = UsageState.objects.get()
    return LateKey.objects.filter(
        day__lt=first_kept, day__gte=state.raw_kept_from or date.min
    ).exists()


def _drop_closed_partitions(report: PruneReport) -> None:
    """Drop the empty partitions; leave one that stays locked to the next prune."""
    raw_kept_from = UsageState.objects.values_list("raw_kept_from", flat=True).get()
    for leaf in _partitions_before(raw_kept_from or date.min):
        if _retry_locked(partial(_drop, leaf)):
            report.partitions_dropped.append(leaf.name)
        else:
            report.partitions_left.append(leaf.name)
            logger.warning(
                "The empty partition %s stayed locked; the next prune drops it.", leaf.name
            )


def _drop(leaf: Leaf) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("DROP TABLE {}").format(leaf.identifier))


def _retry_locked(work: Callable[[], None]) -> bool:
    return retry_locked(work, tries=TRIES, milliseconds=LOCK_MILLISECONDS)


def _partitions_before(day: date) -> list[Leaf]:
    return [
        leaf
        for table in RAW_TABLES
        for leaf_day, leaf in day_partitions(table).items()
        if leaf_day < day
    ]


def _names_before(day: date) -> list[str]:
    return [leaf.name for leaf in _partitions_before(day)]


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

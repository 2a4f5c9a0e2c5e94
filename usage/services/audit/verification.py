"""Audit and repair: compare totals with raw records, and compute again those that differ."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from usage.database.startup import compare_settings
from usage.errors import RefreshRunningError, TooManyRemovalsError
from usage.models import RefreshRun, UsageState
from usage.services.raw.locks import begin_totals, take_refresh_lock
from usage.services.totals import periods
from usage.services.totals.changes import Changes
from usage.services.totals.days import kept_sealed_days
from usage.services.totals.overflow import large_sums_named
from usage.services.totals.refresh import refresh_now
from usage.services.totals.removals import Removals, removals
from usage.services.totals.repair import reseal
from usage.sql import queries

# A report lists at most this many differing keys, but counts all of them.
MOST_DIFFERENCES = 1_000

# How long an audit or a rebuild waits for a running refresh.
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Difference:
    """A key whose total differs from the sum of its raw records.

    Total columns are None if the total is missing, expected ones if there is no raw record. For a
    period total, `day` is the period: the first day of a month, or ALL_DAYS.
    """

    subscription_id: int
    day: date
    usage_type: str
    total_price: Decimal | None
    expected_price: Decimal | None
    total_usage: int | None
    expected_usage: int | None
    record_count: int | None
    expected_count: int | None


@dataclass
class AuditReport:
    """The result of an audit; it lists at most 1,000 differences of each kind.

    `open_days_left_out` is the reason why open days were not compared; empty if they were.
    `withheld` are the days that were not repaired, because a repair would remove more of their
    totals than it may. `repaired` is true if a second comparison found the repair complete.
    """

    sealed_days: int = 0
    subscriptions: int | None = None
    open_days_left_out: str = ""
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    periods_differing: int = 0
    period_differences: list[Difference] = field(default_factory=list)
    withheld: list[Removals] = field(default_factory=list)
    repaired: bool = False


@large_sums_named()
def verify(
    *,
    from_date: date | None = None,
    to_date: date | None = None,
    sample: int | None = None,
    repair: bool = False,
    remove: bool = False,
    progress: Callable[[date], None] = lambda _day: None,
    announce: Callable[[Removals], None] = lambda _removals: None,
) -> AuditReport:
    """Compare daily totals of kept days with raw records, and period totals with daily totals.

    Each sealed day is compared at one snapshot of its own, without its late keys. Open days are
    compared inside a refresh, at the snapshot of their totals. With `sample` only that many random
    subscriptions are compared. With `repair` the differing keys are marked late and a refresh
    computes them again. It skips a day if it would remove more of its totals than it may; with
    `remove` it removes them. `announce` is called with each wrong day whose repair removes totals,
    before anything is repaired. Other refreshes can run while sealed days are compared.

    Raises RefreshFailedError when the refresh fails, RefreshRunningError when a repair waited too
    long for another refresh, SumTooLargeError when a sum is larger than a total can hold.
    """
    report = AuditReport()
    sampled_ids = None if sample is None else _random_subscriptions(sample)
    report.subscriptions = None if sampled_ids is None else len(sampled_ids)
    wrong_days = []
    for day in kept_sealed_days(UsageState.objects.get(), from_date, to_date):
        if _compare(report, "usage_daily", day, day, sampled_ids):
            wrong_days.append(day)
        report.sealed_days += 1
        progress(day)
    run = _verify_open_days(report, from_date, to_date, sampled_ids)
    _compare_periods(report, sampled_ids)
    if run is not None:
        run.keys_differing = report.differing + report.periods_differing
        run.save(update_fields=["keys_differing"])
    for found in map(removals, wrong_days):
        if found.removed:
            announce(found)
        if found.are_too_many and not remove:
            report.withheld.append(found)
    if repair and (report.differing or report.periods_differing):
        withheld = {found.day for found in report.withheld}
        wrong_days = [day for day in wrong_days if day not in withheld]
        for day in wrong_days:
            _mark_late(day)
        if report.periods_differing:
            _forget_periods()
        _wait_and_refresh()
        again = AuditReport()
        for day in wrong_days:
            _compare(again, "usage_daily", day, day, None)
        _compare_periods(again, sampled_ids)
        report.repaired = not (again.differing or again.periods_differing or withheld)
    return report


@large_sums_named()
def rebuild(
    *,
    from_date: date,
    to_date: date,
    remove: bool = False,
    progress: Callable[[date], None] = lambda _day: None,
) -> int:
    """Compute the kept days again, each in its own transaction; return the number of changed rows.

    Readers see each day either before or after its transaction. After an interruption it can be
    run again from the day that it had reached. Open days are computed by a refresh. Raises
    RefreshRunningError while a refresh is running and, without `remove`, TooManyRemovalsError at a
    day that would lose more totals than it may.
    """
    changed = 0
    for day in kept_sealed_days(UsageState.objects.get(), from_date, to_date):
        with transaction.atomic(durable=True):
            begin_totals()
            state = UsageState.objects.get()
            compare_settings(state)
            if day >= (state.raw_kept_from or date.min):
                if not remove and (found := removals(day)).are_too_many:
                    raise TooManyRemovalsError(
                        f"The rebuild stopped at {found}. The days before it are rebuilt. Restore "
                        "the raw records, or run again from this day with --remove to remove the "
                        "totals."
                    )
                changes = Changes()
                changed += reseal(state, day, changes)
                periods.apply_changes(changes)
                state.save(update_fields=["as_of"])  # the same value, but a new row version
        progress(day)
    run = _wait_and_refresh()
    return changed + (run.rows_changed or 0)


def _compare(
    report: AuditReport, relation: str, first_day: date, last_day: date, sample: list[int] | None
) -> int:
    """Compare the totals of the relation with raw records in one statement, so at one snapshot.

    Adds the differing keys to the report and returns their number.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("list_differing", _relation=relation),
            {
                "first_day": first_day,
                "last_day": last_day,
                "subscription_ids": sample,
                "most": MOST_DIFFERENCES,
            },
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    differing = rows[0][-1] if rows else 0
    report.differing += differing
    room = MOST_DIFFERENCES - len(report.differences)
    report.differences += [Difference(*row[:-1]) for row in rows[:room]]
    return differing


def _mark_late(day: date) -> None:
    """Log every differing key of a sealed day as a late key, as a trigger does."""
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("mark_differing_late", _relation="usage_daily_sealed"),
            {"first_day": day, "last_day": day, "subscription_ids": None},
        )


def _compare_periods(report: AuditReport, sample: list[int] | None) -> None:
    """Compare period totals with daily totals.

    Any snapshot is right for this, since both change in the same commit.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            queries.read("list_differing_periods"),
            {
                "all_days": periods.ALL_DAYS,
                "subscription_ids": sample,
                "most": MOST_DIFFERENCES,
            },
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    report.periods_differing = rows[0][-1] if rows else 0
    report.period_differences = [Difference(*row[:-1]) for row in rows]


def _forget_periods() -> None:
    """Have the next refresh compute all period totals again.

    Until then readers add up daily totals instead.
    """
    with transaction.atomic(durable=True):
        take_refresh_lock(wait_seconds=PATIENCE_SECONDS)
        UsageState.objects.update(open_digest=None)


def _verify_open_days(
    report: AuditReport, from_date: date | None, to_date: date | None, sample: list[int] | None
) -> RefreshRun | None:
    """Compare open days inside a refresh; return its run.

    Returns None if another refresh did not end in time.
    """

    def compare(state: UsageState, run: RefreshRun) -> None:
        first = max(from_date or date.min, state.sealed_before or date.min)
        last = to_date or date.max
        if first <= last:
            _compare(report, "usage_daily_open", first, last, sample)
        run.subscriptions_audited, run.keys_differing = report.subscriptions, report.differing

    try:
        return _wait_and_refresh(RefreshRun.Trigger.AUDIT, then=compare)
    except RefreshRunningError as error:
        # The result for sealed days is still worth reporting.
        report.open_days_left_out = str(error)
        return None


def _wait_and_refresh(
    trigger: RefreshRun.Trigger = RefreshRun.Trigger.COMMAND,
    *,
    then: Callable[[UsageState, RefreshRun], None] | None = None,
) -> RefreshRun:
    """Refresh; wait up to PATIENCE_SECONDS for a running refresh to end first."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return refresh_now(trigger, then=then)
        except RefreshRunningError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _random_subscriptions(count: int) -> list[int]:
    """Return at most `count` random subscriptions, found through the primary key."""
    with connection.cursor() as cursor:
        cursor.execute(queries.read("random_subscriptions"), {"count": count})
        return [pk for (pk,) in cursor]

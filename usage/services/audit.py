"""Audit and repair: do the totals say what the raw records say?"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction

from usage.models import RefreshRun, UsageState
from usage.services import sealing
from usage.services.locks import begin_totals
from usage.services.refresh import refresh_now
from usage.services.repair import reseal
from usage.services.startup import compare_time_zone

# A report names this many differing keys; the count goes on.
MOST_DIFFERENCES = 1_000

COMPARE = """
    WITH kept AS (
        SELECT coalesce(raw_kept_from, '-infinity'::date) AS from_day FROM usage_state
    ),

    expected AS MATERIALIZED (
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(first_day)s, %(last_day)s)
        {sampled}
    ),

    found AS MATERIALIZED (
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM {relation}
        WHERE day BETWEEN %(first_day)s AND %(last_day)s {and_sampled}
    ),

    differing AS (
        SELECT
            subscription_id,
            day,
            usage_type,
            found.total_price,
            expected.total_price AS expected_price,
            found.total_usage,
            expected.total_usage AS expected_usage,
            found.record_count,
            expected.record_count AS expected_count
        FROM expected
        FULL JOIN found USING (subscription_id, day, usage_type)
        WHERE
            (found.total_price, found.total_usage, found.record_count, found.last_usage_at)
            IS DISTINCT FROM
            (
                expected.total_price,
                expected.total_usage,
                expected.record_count,
                expected.last_usage_at
            )
            -- A day may be closed while an audit is on its way to it.
            AND day >= (SELECT kept.from_day FROM kept)
    )

    SELECT
        differing.subscription_id,
        differing.day,
        differing.usage_type,
        differing.total_price,
        differing.expected_price,
        differing.total_usage,
        differing.expected_usage,
        differing.record_count,
        differing.expected_count,
        count(*) OVER ()
    FROM differing
    WHERE
        NOT EXISTS (
            SELECT FROM usage_late_key AS late
            WHERE
                late.subscription_id = differing.subscription_id
                AND late.day = differing.day
                AND late.usage_type = differing.usage_type
        )
    ORDER BY differing.subscription_id, differing.day, differing.usage_type
    LIMIT %(limit)s
"""
SAMPLED = "subscription_id = ANY(%(sample)s)"


@dataclass(frozen=True)
class Difference:
    """A key whose total is not what its raw records add up to. None: no row, or no record."""

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
    """What an audit compared and what differs; at most 1,000 differences are named."""

    sealed_days: int = 0
    subscriptions: int | None = None
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    repaired: bool = False


def verify(
    *,
    from_date: date | None = None,
    to_date: date | None = None,
    sample: int | None = None,
    repair: bool = False,
    progress: Callable[[date], None] = lambda _day: None,
) -> AuditReport:
    """Compare the totals of kept days with their raw records and report each differing key.

    Sealed days are compared one by one, each at one snapshot, leaving out the keys that wait for
    repair; open days inside a refresh, at the snapshot of their totals. `sample` compares that
    many random subscriptions only. `repair` marks the differing keys late and refreshes.
    Raises RefreshRunningError when another refresh is on at its end, RefreshFailedError when its
    own fails; while sealed days are compared, other refreshes go on.
    """
    report = AuditReport()
    sampled_ids = None if sample is None else _random_subscriptions(sample)
    report.subscriptions = None if sampled_ids is None else len(sampled_ids)
    for day in _sealed_days(from_date, to_date):
        _compare(report, "usage_daily_sealed", day, day, sampled_ids)
        report.sealed_days += 1
        progress(day)
    _verify_open_days(report, from_date, to_date, sampled_ids)
    if repair and report.differing:
        _repair(report)
    return report


def rebuild(
    *, from_date: date, to_date: date, progress: Callable[[date], None] = lambda _day: None
) -> int:
    """Compute the kept days again, each in a transaction of its own; returns the rows changed.

    Readers see each day before or after. Cut off, it can be run again from the day it got to.
    Open days are computed by a refresh. Raises RefreshRunningError while another one is on.
    """
    changed = 0
    for day in _sealed_days(from_date, to_date):
        with transaction.atomic(durable=True):
            begin_totals()
            state = UsageState.objects.get()
            compare_time_zone(state.time_zone)
            if day >= (state.raw_kept_from or date.min):
                changed += reseal(day)
        progress(day)
    run = refresh_now(RefreshRun.Trigger.COMMAND)
    return changed + (run.rows_changed or 0)


def _sealed_days(from_date: date | None, to_date: date | None) -> list[date]:
    """The sealed days with raw records kept, within the dates, oldest first."""
    state = UsageState.objects.get()
    if state.sealed_before is None:
        return []
    first = max(from_date or date.min, state.raw_kept_from or date.min)
    last = min(to_date or date.max, state.sealed_before - timedelta(1))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT day FROM usage_daily_sealed WHERE day BETWEEN %s AND %s", [first, last]
        )
        days = {day for (day,) in cursor}
    # A day that lost all its totals is found by its partition.
    days |= set(sealing.days_with_records(first, last + timedelta(1)))
    return sorted(days)


def _compare(
    report: AuditReport, relation: str, first_day: date, last_day: date, sample: list[int] | None
) -> None:
    """One statement, one snapshot: what the relation says against what the records add up to."""
    query = COMPARE.format(
        relation=relation,
        sampled="" if sample is None else f"WHERE {SAMPLED}",
        and_sampled="" if sample is None else f"AND {SAMPLED}",
    )
    with connection.cursor() as cursor:
        cursor.execute(
            query,
            {
                "first_day": first_day,
                "last_day": last_day,
                "sample": sample,
                "limit": MOST_DIFFERENCES,
            },
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    if rows:
        report.differing += rows[0][-1]
        room = MOST_DIFFERENCES - len(report.differences)
        report.differences += [Difference(*row[:-1]) for row in rows[:room]]


def _verify_open_days(
    report: AuditReport, from_date: date | None, to_date: date | None, sample: list[int] | None
) -> None:
    def compare(state: UsageState, run: RefreshRun) -> None:
        first = max(from_date or date.min, state.sealed_before or date.min)
        last = to_date or date.max
        if first <= last:
            _compare(report, "usage_daily_open", first, last, sample)
        run.subscriptions_audited, run.keys_differing = report.subscriptions, report.differing

    refresh_now(RefreshRun.Trigger.AUDIT, then=compare)


def _repair(report: AuditReport) -> None:
    """Mark the differing keys late and refresh: what is left differing was not named."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_late_key (subscription_id, day, usage_type)"
            " SELECT * FROM unnest(%s::bigint[], %s::date[], %s::text[])",
            [
                [difference.subscription_id for difference in report.differences],
                [difference.day for difference in report.differences],
                [difference.usage_type for difference in report.differences],
            ],
        )
    refresh_now(RefreshRun.Trigger.COMMAND)
    report.repaired = True


def _random_subscriptions(count: int) -> list[int]:
    """At most `count` random subscriptions, found through the primary key."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH bounds AS (
                SELECT min(id) AS lowest, max(id) AS highest FROM usage_subscription
            )

            SELECT DISTINCT picked.id
            FROM bounds
            CROSS JOIN generate_series(1, %s) AS draws (draw)
            CROSS JOIN LATERAL (
                SELECT id
                FROM usage_subscription
                WHERE
                    id >= bounds.lowest
                    + floor(random() * (bounds.highest - bounds.lowest + 1))::bigint
                    + 0 * draws.draw
                ORDER BY id
                LIMIT 1
            ) AS picked
            """,
            [count],
        )
        return [pk for (pk,) in cursor]

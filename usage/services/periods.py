"""Period totals: add the changes of daily totals to months and to all days.

A transaction that changes daily totals holds the refresh lock and begins with Changes(). Each of
its statements notes what it adds and takes away. The transaction ends with apply_changes(). So
readers see daily and period totals change at once, and the cost depends on the number of changes,
not on the length of the month or of the history.
"""

import logging
from datetime import date

from django.db import connection

from usage.models import PeriodTotal
from usage.services.audit_sql import DIFFERING_PERIODS
from usage.services.changes import Changes

logger = logging.getLogger(__name__)

ALL_DAYS = PeriodTotal.ALL_DAYS

# Additions and removals cancel out in the sums: a day that is sealed leaves the open view with the
# same totals, so it changes no period.
APPLY = """
    WITH monthly AS MATERIALIZED (
        SELECT
            subscription_id,
            date_trunc('month', day::timestamp)::date AS period,
            usage_type,
            sum(total_price) AS total_price,
            sum(total_usage)::bigint AS total_usage,
            sum(record_count)::bigint AS record_count
        FROM usage_total_change
        GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
        HAVING sum(total_price) <> 0 OR sum(total_usage) <> 0 OR sum(record_count) <> 0
    ),

    change AS MATERIALIZED (
        SELECT subscription_id, period, usage_type, total_price, total_usage, record_count
        FROM monthly
        UNION ALL
        SELECT
            subscription_id,
            %(all_days)s::date AS period,
            usage_type,
            sum(total_price) AS total_price,
            sum(total_usage)::bigint AS total_usage,
            sum(record_count)::bigint AS record_count
        FROM monthly
        GROUP BY subscription_id, usage_type
    ),

    -- The order is that of the primary key, so that each of its pages is read once.
    touched AS MATERIALIZED (
        SELECT subscription_id, array_agg(DISTINCT period) AS periods
        FROM change
        GROUP BY subscription_id
        ORDER BY subscription_id
    ),

    -- Both types of each period: when one changes, the other may become the largest.
    known AS (
        SELECT
            total.subscription_id,
            total.period,
            total.usage_type,
            total.total_price,
            total.total_usage,
            total.record_count,
            total.is_largest,
            total.ctid AS place
        FROM touched
        INNER JOIN usage_period_total AS total
            ON
                touched.subscription_id = total.subscription_id
                AND total.period = ANY(touched.periods)
    ),

    summed AS (
        SELECT
            subscription_id,
            period,
            usage_type,
            coalesce(known.total_price, 0) + coalesce(change.total_price, 0) AS total_price,
            coalesce(known.total_usage, 0) + coalesce(change.total_usage, 0) AS total_usage,
            coalesce(known.record_count, 0) + coalesce(change.record_count, 0) AS record_count,
            change.record_count IS NOT NULL AS is_changed,
            known.is_largest AS was_largest,
            known.place
        FROM known
        FULL JOIN change USING (subscription_id, period, usage_type)
    ),

    ranked AS MATERIALIZED (
        SELECT
            subscription_id,
            period,
            usage_type,
            total_price,
            total_usage,
            record_count,
            is_changed,
            was_largest,
            place,
            row_number() OVER (
                PARTITION BY subscription_id, period
                ORDER BY record_count <= 0, total_price DESC, usage_type
            ) = 1 AS is_largest
        FROM summed
    ),

    -- Rows are found by ctid, which only this transaction can change. A second search by key would
    -- take as long as all steps before.
    removed AS (
        DELETE FROM usage_period_total AS total
        USING ranked
        WHERE total.ctid = ranked.place AND ranked.record_count <= 0
    ),

    updated AS (
        UPDATE usage_period_total AS total
        SET
            total_price = ranked.total_price,
            total_usage = ranked.total_usage,
            record_count = ranked.record_count,
            is_largest = ranked.is_largest
        FROM ranked
        WHERE
            total.ctid = ranked.place
            AND ranked.record_count > 0
            AND (ranked.is_changed OR ranked.is_largest <> ranked.was_largest)
    )

    INSERT INTO usage_period_total (
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    )
    SELECT
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    FROM ranked
    WHERE place IS NULL AND record_count > 0
"""

# Notes the difference between the daily totals and the months; the notes of a right month add up to
# zero.
NOTE_DIFFERENCES = """
    INSERT INTO usage_total_change (
        subscription_id, day, usage_type, total_price, total_usage, record_count
    )
    SELECT
        subscription_id,
        date_trunc('month', day::timestamp)::date AS month,
        usage_type,
        sum(total_price),
        sum(total_usage),
        sum(record_count)
    FROM usage_daily
    WHERE day >= %(first_month)s
    GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
    UNION ALL
    SELECT
        subscription_id, period, usage_type, -total_price, -total_usage, -record_count
    FROM usage_period_total
    WHERE period >= %(first_month)s AND period <> %(all_days)s
"""

KEEP_FOR_COMPARISON = """
    CREATE TEMPORARY TABLE usage_period_before ON COMMIT DROP AS
    SELECT subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    FROM usage_period_total
"""

COUNT_WRONG = """
    SELECT count(*)
    FROM usage_period_before AS before
    FULL JOIN usage_period_total AS total USING (subscription_id, period, usage_type)
    WHERE
        (before.total_price, before.total_usage, before.record_count, before.is_largest)
        IS DISTINCT FROM
        (total.total_price, total.total_usage, total.record_count, total.is_largest)
"""


def apply_changes(changes: Changes) -> str:
    """Add the changes to the period totals, once, at the end of the transaction.

    If a change was written but not noted, add up the affected months again and return a remark;
    otherwise return "".
    """
    if changes.are_all_noted():
        _apply_notes()
        return ""
    assert changes.first_day is not None  # noqa: S101 - something was written
    logger.error(
        "Changes of days from %s on were not noted, so their months are added up again.",
        changes.first_day,
    )
    add_up_again(changes.first_day)
    days = "Changes"
    if changes.first_day > ALL_DAYS:
        days = f"Changes of days from {changes.first_day} on"
    return (
        f"{days} were missing from the totals of months. The months were added up again and are "
        "right now. Please report this fault."
    )


def add_up_again(first_day: date) -> None:
    """Add up the months from that of first_day on from the daily totals; date.min means all months.

    The notes of this transaction are discarded, so first_day must not lie after any day that was
    written.
    """
    first_month = first_day.replace(day=1)
    with connection.cursor() as cursor:
        # The months from first_day on include all changes of this transaction.
        cursor.execute("DELETE FROM usage_total_change")
        cursor.execute(NOTE_DIFFERENCES, {"first_month": first_month, "all_days": ALL_DAYS})
    _apply_notes()


def fill() -> str:
    """Empty the period totals and add up every month, and all days.

    Returns a remark with the number of rows that were wrong before, or "" if there were no rows.
    """
    with connection.cursor() as cursor:
        cursor.execute(KEEP_FOR_COMPARISON)
        kept = cursor.rowcount
        cursor.execute("DELETE FROM usage_period_total")
        add_up_again(ALL_DAYS)
        if not kept:
            return ""
        cursor.execute(COUNT_WRONG)
        (wrong,) = cursor.fetchone()
    return f"The totals of months were added up again from all days: {wrong} were wrong or missing."


def compare_all() -> str:
    """Compare every period total with the daily totals; fill all of them again if one differs.

    Returns the remark of fill(), or "" if nothing differs.
    """
    if are_right():
        return ""
    return fill() or "The totals of months were missing and were added up from all days."


def are_right() -> bool:
    """Return whether every period total equals its sum of daily totals; reads all of both."""
    with connection.cursor() as cursor:
        cursor.execute(
            DIFFERING_PERIODS.format(sampled=""), {"all_days": ALL_DAYS, "limit": 1, "sample": None}
        )
        return not cursor.fetchall()


def _apply_notes() -> None:
    with connection.cursor() as cursor:
        cursor.execute(APPLY, {"all_days": ALL_DAYS})


def has_many_dead_rows() -> bool:
    """Return whether the period totals have more than one dead row for ten live ones.

    Autovacuum looks once a minute. Refreshes every few seconds may change every row several times
    in that minute.
    """
    with connection.cursor() as cursor:
        # Without it, the statistics lack the changes of this session for up to a second.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_dead_tup > n_live_tup / 10 FROM pg_stat_all_tables"
            " WHERE relid = 'usage_period_total'::regclass"
        )
        (has_many,) = cursor.fetchone()
    return has_many

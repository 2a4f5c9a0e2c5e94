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
from usage.services.totals.changes import Changes
from usage.sql import queries

logger = logging.getLogger(__name__)

ALL_DAYS = PeriodTotal.ALL_DAYS


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
        cursor.execute(queries.read("delete_changes"))
        cursor.execute(
            queries.read("note_period_differences"),
            {"first_month": first_month, "all_days": ALL_DAYS},
        )
    _apply_notes()


def fill() -> str:
    """Empty the period totals and add up every month, and all days.

    Returns a remark with the number of rows that were wrong before, or "" if there were no rows.
    """
    with connection.cursor() as cursor:
        cursor.execute(queries.read("keep_periods"))
        kept = cursor.rowcount
        cursor.execute(queries.read("delete_periods"))
        add_up_again(ALL_DAYS)
        if not kept:
            return ""
        cursor.execute(queries.read("count_wrong_periods"))
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
            queries.read("list_differing_periods"),
            {"all_days": ALL_DAYS, "subscription_ids": None, "most": 1},
        )
        return not cursor.fetchall()


def _apply_notes() -> None:
    with connection.cursor() as cursor:
        cursor.execute(queries.read("apply_changes"), {"all_days": ALL_DAYS})


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

"""The days that have raw records, and the days that have totals."""

from datetime import date, timedelta

from django.db import connection
from psycopg2 import sql

from usage.models import RAW_TABLES, UsageState
from usage.services.raw.partitions import day_partitions, leaf_partitions
from usage.sql import queries


def days_with_records(first: date | None, end: date) -> list[date]:
    """Return the days from `first` (None: the oldest) up to `end`, excluded, that may have raw
    records."""
    own, strays = days_by_place(first, end)
    return sorted(own | strays)


def days_by_place(first: date | None, end: date) -> tuple[set[date], set[date]]:
    """Return the same days in two sets: days of our own partitions, and days of records in other
    partitions, such as the default one, whose records are read."""
    own: set[date] = set()
    strays: set[date] = set()
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            ours = {leaf: day for day, leaf in day_partitions(table).items()}
            # If clocks go back over midnight, a partition may hold the end of the day before.
            own |= {day - timedelta(past) for day in ours.values() for past in (0, 1)}
            for leaf in leaf_partitions(table):
                if leaf not in ours:
                    cursor.execute(
                        sql.SQL("SELECT DISTINCT usage_day(usage_date) FROM {}").format(
                            leaf.identifier
                        )
                    )
                    strays |= {day for (day,) in cursor}

    def within_bounds(days: set[date]) -> set[date]:
        return {day for day in days if day < end and (first is None or day >= first)}

    return within_bounds(own), within_bounds(strays)


def kept_sealed_days(
    state: UsageState, from_date: date | None = None, to_date: date | None = None
) -> list[date]:
    """Return the sealed days between the dates whose raw records are kept, oldest first."""
    if state.sealed_before is None:
        return []
    first = max(from_date or date.min, state.raw_kept_from or date.min)
    last = min(to_date or date.max, state.sealed_before - timedelta(1))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT day FROM usage_daily_sealed WHERE day BETWEEN %s AND %s", [first, last]
        )
        days = {day for (day,) in cursor}
    # Only its partition shows a day that lost all its totals.
    days |= set(days_with_records(first, last + timedelta(1)))
    return sorted(days)


def days_without_records(first: date, end: date) -> list[tuple[date, int]]:
    """Return the sealed days from `first` up to `end`, excluded, that have totals but no raw
    record, each with the number of its totals."""
    with connection.cursor() as cursor:
        cursor.execute(queries.read("totals_a_day"), {"first_day": first, "end_day": end})
        return [(day, totals) for day, totals in cursor.fetchall() if not _has_records(day)]


def _has_records(day: date) -> bool:
    with connection.cursor() as cursor:
        # Bounds on usage_date let the planner skip the other partitions.
        cursor.execute("SELECT usage_day_start(%s), usage_day_end(%s)", [day, day])
        bounds = cursor.fetchone()
        for table in RAW_TABLES:
            cursor.execute(
                sql.SQL(
                    "SELECT EXISTS (SELECT FROM {} WHERE usage_date >= %s AND usage_date < %s"
                    " AND usage_day(usage_date) = %s)"
                ).format(sql.Identifier(table)),
                [*bounds, day],
            )
            (exists,) = cursor.fetchone()
            if exists:
                return True
    return False

"""The current day and moment, by the clock of the database. Tests replace these functions."""

from datetime import date, datetime

from django.db import connections

from usage.database import routing


def today() -> date:
    """Return the current day in USAGE_TIME_ZONE, by the clock of the database."""
    with connections[routing.current()].cursor() as cursor:
        cursor.execute("SELECT usage_day(clock_timestamp())")
        (day,) = cursor.fetchone()
    return day


def now() -> datetime:
    """Return the current moment by the clock of the database."""
    with connections[routing.current()].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
    return moment

"""Today, as the database counts days. Tests that move over midnight replace this function."""

from datetime import date, datetime

from django.db import connections

from usage.services import servers


def today() -> date:
    """The current day in the time zone of the deployment, by the clock of the database."""
    with connections[servers.current()].cursor() as cursor:
        cursor.execute("SELECT usage_day(clock_timestamp())")
        (day,) = cursor.fetchone()
    return day


def now() -> datetime:
    """The moment by the clock of the database."""
    with connections[servers.current()].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (moment,) = cursor.fetchone()
    return moment

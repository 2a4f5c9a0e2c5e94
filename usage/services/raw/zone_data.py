"""The zone data of PostgreSQL and of Python, compared for the days of this database."""

from datetime import timedelta

from usage.database.zones import ZoneDifference, refuse_misread_zone, zone_differences
from usage.errors import TimeZoneMisreadError
from usage.models import RAW_TABLES, UsageState
from usage.services.raw import clock
from usage.services.raw.partitions import partition_days

NEXT_YEAR = timedelta(days=366)


def differences_in_kept_days() -> list[ZoneDifference]:
    """Return the differences for the zone of this database, from its first day with raw records to
    a year from today. Returns none for a zone that PostgreSQL misreads: another check names it."""
    zone, raw_kept_from = UsageState.objects.values_list("time_zone", "raw_kept_from").get()
    try:
        refuse_misread_zone(zone, zone)
    except TimeZoneMisreadError:
        return []
    today = clock.today()
    first = raw_kept_from or min(
        (days[0] for days in map(partition_days, RAW_TABLES) if days), default=today
    )
    return zone_differences(zone, min(first, today), today + NEXT_YEAR)

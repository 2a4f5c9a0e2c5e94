"""What a process makes sure of before it serves."""

import logging

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connection

from usage.errors import TimeZoneChangedError
from usage.models import UsageState

logger = logging.getLogger(__name__)


def refuse_another_time_zone() -> None:
    """Raise TimeZoneChangedError when days are cut in another zone than USAGE_TIME_ZONE.

    A database that is away or not migrated yet is not a reason to refuse: every refresh asks
    again.
    """
    try:
        stored = UsageState.objects.values_list("time_zone", flat=True).first()
    except ProgrammingError:
        return
    except OperationalError as error:
        logger.warning("The time zone of the totals could not be read: %s", error)
        return
    finally:
        if not connection.in_atomic_block:
            connection.close()
    compare_time_zone(stored)


def compare_time_zone(stored: str | None) -> None:
    """Raise TimeZoneChangedError when the zone stored in the database is another one."""
    if stored is not None and stored != settings.USAGE_TIME_ZONE:
        raise TimeZoneChangedError(
            f"USAGE_TIME_ZONE is {settings.USAGE_TIME_ZONE}, but the days of this database are cut "
            f"in {stored}. Set USAGE_TIME_ZONE={stored}. To change the zone, every day must be "
            "computed again: make a new database with the new zone and import the raw records "
            "into it."
        )

"""What a process makes sure of before it serves."""

import logging
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import DataError, OperationalError, ProgrammingError, connection

from usage.errors import (
    EncodingError,
    LateKeysChangedError,
    NoTimeLimitError,
    TimeZoneChangedError,
    TimeZoneMisreadError,
)
from usage.models import UsageState

# Of a year of which every release of the zone data tells the same.
SEASONS = [datetime(2020, month, 1, tzinfo=UTC) for month in (1, 4, 7, 10)]

logger = logging.getLogger(__name__)


def refuse_other_settings() -> None:
    """Raise SettingChangedError when days are cut in another zone than USAGE_TIME_ZONE, or late
    keys are captured in another way than USAGE_LATE_KEYS.

    A database that is away or not migrated yet is not a reason to refuse: every refresh asks
    again.
    """
    stored = _stored("time_zone", "late_keys")
    if stored is not None:
        compare_settings(UsageState(**stored))


def stored_time_zone() -> str | None:
    """The zone in which days are cut; None when the database is away or not migrated yet."""
    stored = _stored("time_zone")
    return stored["time_zone"] if stored else None


def _stored(*names: str) -> dict[str, str] | None:
    try:
        return UsageState.objects.values(*names).first()
    except ProgrammingError:
        return None
    except OperationalError as error:
        logger.warning("The settings of the totals could not be read: %s", error)
        return None
    finally:
        if not connection.in_atomic_block:
            connection.close()


def compare_settings(state: UsageState) -> None:
    """Raise SettingChangedError when a setting stored in the database is another one."""
    stored = state.time_zone
    if stored != settings.USAGE_TIME_ZONE:
        raise TimeZoneChangedError(
            f"USAGE_TIME_ZONE is {settings.USAGE_TIME_ZONE}, but the days of this database are cut "
            f"in {stored}. Set USAGE_TIME_ZONE={stored}. To change the zone, every day must be "
            "computed again: make a new database with the new zone and import the raw records "
            "into it."
        )
    if state.late_keys != settings.USAGE_LATE_KEYS:
        raise LateKeysChangedError(
            f"USAGE_LATE_KEYS is {settings.USAGE_LATE_KEYS}, but this database has "
            f"{state.late_keys}. Set USAGE_LATE_KEYS={state.late_keys}, or stop all processes and "
            "run: manage.py switch_late_keys"
        )


def refuse_misread_time_zone() -> None:
    """Raise TimeZoneMisreadError when the server's clock of USAGE_TIME_ZONE is not that of the
    zone: it takes CET, EET, MET and WET for abbreviations, which know no summer time."""
    name = settings.USAGE_TIME_ZONE
    zone = ZoneInfo(name)
    advice = "Name a zone by one of its places, such as Europe/Brussels."
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT moment AT TIME ZONE %s - moment AT TIME ZONE 'UTC'"
                " FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS seasons (moment, place)"
                " ORDER BY place",
                [name, SEASONS],
            )
            offsets = [offset for (offset,) in cursor]
    except DataError as error:
        raise TimeZoneMisreadError(
            f"PostgreSQL doesn't know the zone USAGE_TIME_ZONE={name}. {advice}"
        ) from error
    if offsets != [moment.astimezone(zone).utcoffset() for moment in SEASONS]:
        raise TimeZoneMisreadError(
            f"PostgreSQL takes USAGE_TIME_ZONE={name} for an abbreviation without summer time and "
            f"would begin summer days at another hour than the zone {name} does. {advice}"
        )


def refuse_other_encodings() -> None:
    """Raise EncodingError when the database can't hold every name that UTF8 has."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_setting('server_encoding')")
        name, encoding = cursor.fetchone()
    if encoding != "UTF8":
        raise EncodingError(
            f"The encoding of the database {name} is {encoding}, which can't hold every external "
            "id. Make one with UTF8: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def refuse_statements_without_limit() -> None:
    """Raise NoTimeLimitError when a statement of a web request could take for ever: a pool brings
    none of the limits that a connection of our own has.

    A database that is away is not a reason to refuse.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT quote_ident(current_user), current_setting('statement_timeout') = '0'"
            )
            role, has_none = cursor.fetchone()
    except OperationalError as error:
        logger.warning("The time limit of statements could not be read: %s", error)
        return
    finally:
        if not connection.in_atomic_block:
            connection.close()
    if has_none:
        seconds = settings.WEB_STATEMENT_TIMEOUT_SECONDS
        raise NoTimeLimitError(
            "Behind a pool the limits of web requests are those of the role. Run: "
            f"ALTER ROLE {role} SET statement_timeout = '{seconds}s'; "
            f"ALTER ROLE {role} SET lock_timeout = '5s'; and start the pool anew, so that it "
            "takes new connections."
        )

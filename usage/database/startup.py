"""Checks that a process runs before it serves."""

import logging

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connection

from usage.database.zones import refuse_misread_zone
from usage.errors import (
    EncodingError,
    LateKeysChangedError,
    NoTimeLimitError,
    TimeZoneChangedError,
)
from usage.models import UsageState

logger = logging.getLogger(__name__)


def refuse_other_settings() -> None:
    """Raise SettingChangedError if USAGE_TIME_ZONE or USAGE_LATE_KEYS differ from the database.

    It passes if the database is unavailable or not migrated yet: every refresh compares again.
    """
    stored = _stored("time_zone", "late_keys")
    if stored is not None:
        compare_settings(UsageState(**stored))


def stored_time_zone() -> str | None:
    """Return the zone of the days, or None if the database is unavailable or not migrated yet."""
    stored = _stored("time_zone")
    return stored["time_zone"] if stored else None


def captures_as_this_release() -> bool:
    """Return whether the database has the triggers of this release, by a column added with them."""
    return _stored("capture_digest") is not None


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
    """Raise SettingChangedError if a setting differs from the one stored in the database."""
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
    """Raise TimeZoneMisreadError if PostgreSQL reads USAGE_TIME_ZONE differently from Python."""
    name = settings.USAGE_TIME_ZONE
    refuse_misread_zone(name, f"USAGE_TIME_ZONE={name}")


def refuse_other_encodings() -> None:
    """Raise EncodingError if the encoding of the database is not UTF8."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_database(), current_setting('server_encoding')")
        name, encoding = cursor.fetchone()
    if encoding != "UTF8":
        raise EncodingError(
            f"The encoding of the database {name} is {encoding}, which cannot store every external "
            "id. Make a database with UTF8: CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0"
        )


def refuse_statements_without_limit() -> None:
    """Raise NoTimeLimitError if statements of web requests have no time limit: a pool drops the
    limits that a direct connection sets.

    It passes if the database is unavailable.
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
            f"Behind a pool the role must set the time limits of web requests, but {role} has "
            f"none. Run: ALTER ROLE {role} SET statement_timeout = '{seconds}s'; "
            f"ALTER ROLE {role} SET lock_timeout = '5s'; then restart the pool, so that it "
            "opens new connections."
        )

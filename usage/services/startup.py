"""What a process makes sure of before it serves."""

import logging

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connection

from usage.errors import (
    EncodingError,
    LateKeysChangedError,
    NoTimeLimitError,
    TimeZoneChangedError,
)
from usage.models import UsageState
from usage.services.zones import refuse_misread_zone

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


def captures_as_this_release() -> bool:
    """Whether the database has the triggers of this release, by a column that came with them."""
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
    """Raise TimeZoneMisreadError when PostgreSQL takes USAGE_TIME_ZONE for something else."""
    name = settings.USAGE_TIME_ZONE
    refuse_misread_zone(name, f"USAGE_TIME_ZONE={name}")


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

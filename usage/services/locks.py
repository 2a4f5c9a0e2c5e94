"""The lock of the one refresher, and how failed locks are told apart."""

from django.db import DatabaseError, OperationalError, connection

from usage.errors import RefreshRunningError

LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, or None when the server sent none."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return getattr(cause, "pgcode", None)


def take_refresh_lock() -> None:
    """Become the one refresher until the transaction ends, or raise RefreshRunningError at once.

    LOCK TABLE takes no snapshot, so what the transaction reads next is read under the lock.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT")
    except OperationalError as error:
        if sqlstate(error) == LOCK_NOT_AVAILABLE:
            raise RefreshRunningError from error
        raise


def refresh_is_on() -> bool:
    """Whether somebody holds the refresh lock at this moment."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks INNER JOIN pg_database"
            " ON pg_database.oid = pg_locks.database"
            " WHERE datname = current_database() AND relation = 'usage_refresh_lock'::regclass"
            " AND mode = 'ShareUpdateExclusiveLock' AND granted)"
        )
        (is_on,) = cursor.fetchone()
    return is_on

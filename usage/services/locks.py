"""The lock of the one refresher, how its transactions begin, and why a lock was not had."""

import time
from collections.abc import Callable

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction
from psycopg2 import sql

from usage.errors import RawTableLockedError, RefreshRunningError
from usage.models import RAW_TABLES

LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
DEADLOCK = "40P01"
SERIALIZATION_FAILURE = "40001"
# Of a materialized view that was never filled.
NOT_POPULATED = "55000"
INSUFFICIENT_PRIVILEGE = "42501"
NUMERIC_VALUE_OUT_OF_RANGE = "22003"
OUT_OF_MEMORY = "53200"
READ_ONLY = "25006"
UNIQUE_VIOLATION = "23505"

FIRST_WITH_TRANSACTION_TIMEOUT = 170_000

# How long a transaction that writes totals waits for a TRUNCATE or a change of a raw table.
RAW_LOCK_SECONDS = 5

# It waits for one table while it holds the other. The server looks for deadlocks after a second and
# could end a writer that truncates both, one after the other: so it lets go before that.
TRY_SECONDS = 0.5

# A process may stand still in a transaction, stopped or swapped out. Nobody is to wait for ever for
# what it locked: after so long the server ends it, and its transaction is as never begun. Writers
# wait for an exclusive lock; behind that of the refresh only other refreshes do, and who truncates
# or alters a raw table.
IDLE_SECONDS = 10
IDLE_REFRESH_SECONDS = 300

# Enough to add up a day of 500,000 subscriptions without a temporary file.
WORK_MEM_MEGABYTES = 128


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of a database error, or None when the server sent none."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return getattr(cause, "pgcode", None)


def is_of_server(error: BaseException) -> bool:
    """Whether the server or the way to it is at fault, not what was asked.

    The driver tells of a server that went between two questions by the bare class at times.
    """
    return isinstance(error, (OperationalError, InterfaceError)) or type(error) is DatabaseError


def take_refresh_lock(*, wait_seconds: float = 0) -> None:
    """Become the one refresher until the transaction ends, or raise RefreshRunningError.

    LOCK TABLE takes no snapshot, so what the transaction reads next is read under the lock.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_REFRESH_SECONDS}s'"
            )
            if connection.pg_version >= FIRST_WITH_TRANSACTION_TIMEOUT:  # type: ignore[attr-defined]
                # That of a role is for its requests; the statements here have limits of their own.
                cursor.execute("SET LOCAL transaction_timeout = 0")
            if wait_seconds:
                cursor.execute(f"SET LOCAL lock_timeout = '{wait_seconds}s'")
            cursor.execute(
                "LOCK TABLE usage_refresh_lock IN SHARE UPDATE EXCLUSIVE MODE"
                f" {'' if wait_seconds else 'NOWAIT'}"
            )
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


def limit_exclusive_lock(milliseconds: int) -> None:
    """How long this transaction waits for a lock that locks others out, and may keep it idle."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{milliseconds}ms'")
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")


def retry_locked(work: Callable[[], None], *, tries: int, milliseconds: int) -> bool:
    """Do the work in a transaction under the refresh lock; False when a table stayed locked.

    An exclusive lock stops others while it waits for readers, so each try waits for a moment
    only: less than the server takes to find a deadlock and end one of its parties.
    """
    for _ in range(tries):
        try:
            with transaction.atomic(durable=True):
                take_refresh_lock()
                limit_exclusive_lock(milliseconds)
                work()
        except OperationalError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            time.sleep(milliseconds / 1000)
        else:
            return True
    return False


def lock_raw_tables(mode: str) -> None:
    """Lock every raw table in this transaction, for example in the mode ACCESS SHARE.

    One statement locks them in one order, so that two who do this don't end in a deadlock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            sql.SQL("LOCK TABLE {} IN {} MODE").format(
                sql.SQL(", ").join(map(sql.Identifier, RAW_TABLES)), sql.SQL(mode)
            )
        )


def begin_totals() -> None:
    """The first statements of a transaction that writes totals: its locks, before its snapshot.

    Raises RefreshRunningError when another one is on. The next query takes the snapshot.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for setting, value in {
            "lock_timeout": f"{TRY_SECONDS}s",
            "statement_timeout": f"{settings.USAGE_REFRESH_TIMEOUT_SECONDS}s",
            "work_mem": f"{WORK_MEM_MEGABYTES}MB",
            # Compiling a plan over dozens of partitions takes longer than running it.
            "jit": "off",
            # The server can't tell how few days there are and would rather sort every record than
            # add up in a hash table, which takes less than half the time.
            "enable_sort": "off",
            "enable_incremental_sort": "off",
        }.items():
            # SET, unlike set_config(), takes no snapshot.
            cursor.execute(f"SET LOCAL {setting} = '{value}'")
        take_refresh_lock()
        _wait_for_raw_tables()
        cursor.execute(f"SET LOCAL lock_timeout = '{RAW_LOCK_SECONDS}s'")


def begin_without_writers() -> None:
    """Begin like begin_totals(), and wait until nobody writes raw records: what goes by days that
    are about to change has ended, or has not begun. Readers of totals go on."""
    begin_totals()
    limit_exclusive_lock(RAW_LOCK_SECONDS * 1000)
    lock_raw_tables("ACCESS EXCLUSIVE")


def _wait_for_raw_tables() -> None:
    """Lock the raw tables before the snapshot is taken.

    A TRUNCATE that slipped in behind the snapshot would show it an empty past. Raises
    RawTableLockedError when one stays locked for RAW_LOCK_SECONDS.
    """
    deadline = time.monotonic() + RAW_LOCK_SECONDS
    while True:
        try:
            # atomic() releases its savepoint also after a failed try. Rows written inside an open
            # savepoint would not carry pg_current_xact_id(), by which the refresh finds them.
            with transaction.atomic():
                lock_raw_tables("ACCESS SHARE")
        except OperationalError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() >= deadline:
                first_line = str(error).partition("\n")[0]
                raise RawTableLockedError(
                    f"A raw table stayed locked for {RAW_LOCK_SECONDS} s: {first_line}. A TRUNCATE "
                    "or ALTER TABLE is under way (see pg_stat_activity); the next run tries again."
                ) from error
        else:
            return

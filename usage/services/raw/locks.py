"""The refresh lock, the first statements of transactions that write totals, and locks that wait
only briefly."""

import time
from collections.abc import Callable

from django.conf import settings
from django.db import OperationalError, connection, transaction
from psycopg2 import sql

from usage.database.errors import LOCK_NOT_AVAILABLE, first_line, sqlstate
from usage.errors import RawTableLockedError, RefreshRunningError
from usage.models import RAW_TABLES

FIRST_WITH_TRANSACTION_TIMEOUT = 170_000

# How long a transaction that writes totals waits for a TRUNCATE or ALTER of a raw table.
RAW_LOCK_SECONDS = 5

# The transaction waits for one raw table while it holds the other. A writer that truncates both,
# one after the other, can deadlock with it, and the server could end the writer. So each try
# releases the locks before the server looks for deadlocks, which it does after one second.
TRY_SECONDS = 0.5

# A request for an exclusive lock blocks other sessions while it waits for readers. So each try
# waits only briefly, and for less time than the server needs to find a deadlock.
TRIES = 10
LOCK_MILLISECONDS = 200

# A frozen process (SIGSTOP, swapping) would hold its locks forever. After this many idle seconds
# PostgreSQL ends the session and rolls back. The limit is short for exclusive locks, which block
# writers. The locks of a refresh block only other refreshes, TRUNCATE and ALTER of a raw table.
IDLE_SECONDS = 10
IDLE_REFRESH_SECONDS = 300

# Enough to add up one day of 500,000 subscriptions without a temporary file.
WORK_MEM_MEGABYTES = 128


def take_refresh_lock(*, wait_seconds: float = 0) -> None:
    """Take the refresh lock until the transaction ends, or raise RefreshRunningError.

    LOCK TABLE takes no snapshot, so the next query of the transaction reads under the lock.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_REFRESH_SECONDS}s'"
            )
            if connection.pg_version >= FIRST_WITH_TRANSACTION_TIMEOUT:  # type: ignore[attr-defined]
                # A timeout of the role is meant for requests; a refresh has its own timeouts.
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
    """Return whether a session holds the refresh lock now."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks INNER JOIN pg_database"
            " ON pg_database.oid = pg_locks.database"
            " WHERE datname = current_database() AND relation = 'usage_refresh_lock'::regclass"
            " AND mode = 'ShareUpdateExclusiveLock' AND granted)"
        )
        (is_on,) = cursor.fetchone()
    return is_on


def limit_exclusive_lock(milliseconds: int | None = None) -> None:
    """Limit how long this transaction waits for an exclusive lock (LOCK_MILLISECONDS if not given),
    and how long it may idle."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = '{milliseconds or LOCK_MILLISECONDS}ms'")
        cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_SECONDS}s'")


def retry_locked(work: Callable[[], None]) -> bool:
    """Run work() in a transaction under the refresh lock; return False if a table stayed locked."""
    for _ in range(TRIES):
        try:
            with transaction.atomic(durable=True):
                take_refresh_lock()
                limit_exclusive_lock()
                work()
        except OperationalError as error:
            if sqlstate(error) != LOCK_NOT_AVAILABLE:
                raise
            time.sleep(LOCK_MILLISECONDS / 1000)
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
    """Run the first statements of a transaction that writes totals, which take its locks.

    The next query takes the snapshot. Raises RefreshRunningError while another refresh is running.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        for setting, value in {
            "lock_timeout": f"{TRY_SECONDS}s",
            "statement_timeout": f"{settings.USAGE_REFRESH_TIMEOUT_SECONDS}s",
            "work_mem": f"{WORK_MEM_MEGABYTES}MB",
            # To compile a plan over dozens of partitions takes longer than to run it.
            "jit": "off",
            # The planner does not know how few days there are, so it prefers to sort all records.
            # Adding them up in a hash table takes less than half the time.
            "enable_sort": "off",
            "enable_incremental_sort": "off",
        }.items():
            # SET, unlike set_config(), takes no snapshot.
            cursor.execute(f"SET LOCAL {setting} = '{value}'")
        take_refresh_lock()
        _wait_for_raw_tables()
        cursor.execute(f"SET LOCAL lock_timeout = '{RAW_LOCK_SECONDS}s'")


def begin_without_writers() -> None:
    """Begin like begin_totals(), and lock out writers of raw records.

    So no transaction is left that relies on the old states of days. Readers of totals do not wait.
    """
    begin_totals()
    limit_exclusive_lock(RAW_LOCK_SECONDS * 1000)
    lock_raw_tables("ACCESS EXCLUSIVE")


def _wait_for_raw_tables() -> None:
    """Lock the raw tables before the snapshot is taken.

    TRUNCATE is not MVCC-safe: after one that ran later than the snapshot, the refresh would find
    the tables empty. Raises RawTableLockedError when one stays locked for RAW_LOCK_SECONDS.
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
                raise RawTableLockedError(
                    f"A raw table stayed locked for {RAW_LOCK_SECONDS} s: {first_line(error)}. A "
                    "TRUNCATE or ALTER TABLE is running (see pg_stat_activity); the next run tries "
                    "again."
                ) from error
        else:
            return

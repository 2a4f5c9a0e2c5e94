"""Database errors, explained in one line that an operator can act on."""

from django.db import DatabaseError, InterfaceError, connection

from usage.database import lock_room
from usage.database.blockers import holders
from usage.database.errors import (
    DEADLOCK,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    OUT_OF_MEMORY,
    QUERY_CANCELED,
    READ_ONLY,
    SERIALIZATION_FAILURE,
    UNIQUE_VIOLATION,
    first_line,
    is_server_error,
    sqlstate,
)
from usage.models import RAW_TABLES

# The tables whose locks commands wait for.
TABLES = [
    *RAW_TABLES,
    "usage_daily_open",
    "usage_daily_sealed",
    "usage_period_total",
    "usage_state",
]


def explain(error: BaseException) -> str | None:
    """Return the cause and what to do, if the server reported a known one; otherwise None.

    Do not call it in the transaction that failed.
    """
    line = first_line(error)
    match sqlstate(error):
        case code if code == READ_ONLY:
            return f"The database takes no changes: {line}. {_why_read_only()}"
        case code if code == LOCK_NOT_AVAILABLE:
            return f"A lock was not available in time: {line}. {_who_holds_tables()}"
        case code if code == QUERY_CANCELED:
            return (
                f"The server ended a statement: {line}. If nobody cancelled it, raise "
                "statement_timeout of the role."
            )
        case code if code in {DEADLOCK, SERIALIZATION_FAILURE}:
            return f"The statement conflicted with another transaction: {line}. Try again."
        case code if code == INSUFFICIENT_PRIVILEGE:
            return (
                f"The role of DATABASE_URL lacks a privilege: {line}. Use the owner of the "
                "tables, or see docs/roles.md for the privileges of each role. If a restore set "
                "the wrong owner, restore with: pg_restore --no-owner --role=ROLE"
            )
        case code if code == UNIQUE_VIOLATION and "_pkey" in line and "usage_daily" not in line:
            return (
                f"A sequence is behind its table: {line}. A restore or logical replication "
                "left it behind. Run: manage.py check_restore"
            )
        case code if code == OUT_OF_MEMORY and "shared memory" in line:
            return f"The server has no room for more locks: {line}. {lock_advice()}"
        case code if code and code.startswith("53"):
            return (
                f"The server is short of resources: {line}. Free disk space, memory or connections."
            )
        case None if is_server_error(error) and "closed the connection" in line:
            return _transaction_timeout()
        case _:
            return None


def lock_advice() -> str:
    """Return how full the lock table of the server is, and what to do."""
    try:
        room = lock_room.read()
    except (DatabaseError, InterfaceError):  # this query needs locks, too
        return "Raise max_locks_per_transaction of the server and restart it."
    return f"Locks of partitions fill it: {room}. {room.advice}"


def _why_read_only() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_is_in_recovery(), source FROM pg_settings"
                " WHERE name = 'default_transaction_read_only'"
            )
            is_standby, source = cursor.fetchone()
    except (DatabaseError, InterfaceError):
        return "Check whether it is a standby, and run: SHOW default_transaction_read_only"
    if is_standby:
        return "It is a standby. Set DATABASE_URL to the primary."
    return f"default_transaction_read_only is on (set by: {source}). Turn it off there."


def _who_holds_tables() -> str:
    try:
        found = holders([*TABLES])
    except (DatabaseError, InterfaceError):
        found = []
    if not found:
        return "The lock is free again. Try again."
    return f"Held by: {'; '.join(map(str, found))}"


def _transaction_timeout() -> str | None:
    """Return the explanation if a transaction_timeout may have ended the session.

    The driver loses the reason why the server ended a session; a new session shows the limit.
    """
    connection.close()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user, current_setting('transaction_timeout', TRUE)")
            role, limit = cursor.fetchone()
    except (DatabaseError, InterfaceError):
        return None
    if limit in {None, "0"}:
        return None
    return (
        f"The server ended the session. The transaction_timeout of {role} is {limit}, which may be "
        f"too short for this command: ALTER ROLE {role} SET transaction_timeout = 0"
    )

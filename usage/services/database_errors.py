"""What a database error means, in one line that an operator can act on."""

from django.db import DatabaseError, InterfaceError, connection

from usage.models import RAW_TABLES
from usage.services import lock_room
from usage.services.fences import holders
from usage.services.locks import (
    DEADLOCK,
    INSUFFICIENT_PRIVILEGE,
    LOCK_NOT_AVAILABLE,
    OUT_OF_MEMORY,
    QUERY_CANCELED,
    READ_ONLY,
    SERIALIZATION_FAILURE,
    UNIQUE_VIOLATION,
    is_of_server,
    sqlstate,
)

# A command that waits for a lock waits for one of these.
TABLES = [
    *RAW_TABLES,
    "usage_daily_open",
    "usage_daily_sealed",
    "usage_period_total",
    "usage_state",
]


def explain(error: BaseException) -> str | None:
    """The cause where the server answered and said it; None where it did not, or where the error is
    of another kind. Must not be called in the transaction that failed."""
    first_line = str(error).strip().partition("\n")[0]
    match sqlstate(error):
        case code if code == READ_ONLY:
            return f"The database takes no changes: {first_line}. {_why_read_only()}"
        case code if code == LOCK_NOT_AVAILABLE:
            return f"A lock was not to be had in time: {first_line}. {_who_holds_tables()}"
        case code if code == QUERY_CANCELED:
            return (
                f"The server ended a statement: {first_line}. If nobody cancelled it, raise "
                "statement_timeout of the role."
            )
        case code if code in {DEADLOCK, SERIALIZATION_FAILURE}:
            return f"Another transaction was in the way: {first_line}. Try again."
        case code if code == INSUFFICIENT_PRIVILEGE:
            return (
                f"The login of DATABASE_URL may not do this: {first_line}. Use that of the owner "
                "of the tables, or see docs/roles.md for what each role may do. A restore makes "
                "the owner right by: pg_restore --no-owner --role=ROLE"
            )
        case code if (
            code == UNIQUE_VIOLATION and "_pkey" in first_line and "usage_daily" not in first_line
        ):
            return (
                f"A sequence is behind its table: {first_line}. A restore or logical replication "
                "left it behind. Run: manage.py check_restore"
            )
        case code if code == OUT_OF_MEMORY and "shared memory" in first_line:
            return f"The server has no room for more locks: {first_line}. {lock_advice()}"
        case code if code and code.startswith("53"):
            return (
                f"The server is short of resources: {first_line}. Free disk space, memory or "
                "connections."
            )
        case None if is_of_server(error) and "closed the connection" in first_line:
            return _transaction_timeout()
        case _:
            return None


def lock_advice() -> str:
    """How full the lock table of the server is, and what to do."""
    try:
        room = lock_room.read()
    except (DatabaseError, InterfaceError):  # which needs locks as well
        return "Raise max_locks_per_transaction of the server and restart it."
    return f"It is full of locks of partitions: {room}. {room.advice}"


def _why_read_only() -> str:
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_is_in_recovery(), source FROM pg_settings"
                " WHERE name = 'default_transaction_read_only'"
            )
            is_standby, source = cursor.fetchone()
    except (DatabaseError, InterfaceError):
        return "See whether it is a standby, and SHOW default_transaction_read_only."
    if is_standby:
        return "It is a standby: let DATABASE_URL lead to the primary."
    return f"default_transaction_read_only is on (set by: {source}). Turn it off there."


def _who_holds_tables() -> str:
    try:
        found = holders([*TABLES])
    except (DatabaseError, InterfaceError):
        found = []
    if not found:
        return "The lock is free again: try again."
    return f"Held by: {'; '.join(map(str, found))}"


def _transaction_timeout() -> str | None:
    """The driver loses the reason why the server ended a session; a new session shows the limit."""
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

"""The next step for errors of the database whose cause is known, in one line."""

from django.db import DatabaseError, InterfaceError, ProgrammingError, connection

from usage.services.locks import (
    INSUFFICIENT_PRIVILEGE,
    UNIQUE_VIOLATION,
    is_of_server,
    sqlstate,
)


def advice_on(error: Exception) -> str | None:
    """What happened and the next step; None when the cause is not known."""
    first_line = str(error).strip().partition("\n")[0]
    if isinstance(error, ProgrammingError) and "does not exist" in first_line:
        return f"The database is not migrated: {first_line}. Run: manage.py migrate"
    match sqlstate(error):
        case code if code == INSUFFICIENT_PRIVILEGE:
            return (
                f"The role in DATABASE_URL may not do this: {first_line}. It must own the tables: "
                "restore with pg_restore --no-owner --role=ROLE. A role that is not the owner "
                "needs the grants that manage.py check --database default names"
            )
        case code if code == UNIQUE_VIOLATION and "_pkey" in first_line:
            return (
                f"A sequence is behind its table: {first_line}. A restore or logical replication "
                "left it behind. Run: manage.py check_restore"
            )
    if is_of_server(error) and "closed the connection" in first_line:
        return _transaction_timeout()
    return None


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

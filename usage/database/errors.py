"""Errors of the server: their SQLSTATE, and whose fault they are."""

from django.db import DatabaseError, InterfaceError, OperationalError

LOCK_NOT_AVAILABLE = "55P03"
QUERY_CANCELED = "57014"
DEADLOCK = "40P01"
SERIALIZATION_FAILURE = "40001"
# The SQLSTATE for a materialized view that was never filled.
NOT_POPULATED = "55000"
INSUFFICIENT_PRIVILEGE = "42501"
NUMERIC_VALUE_OUT_OF_RANGE = "22003"
OUT_OF_MEMORY = "53200"
READ_ONLY = "25006"
UNIQUE_VIOLATION = "23505"
# A table, a column or a function does not exist.
NOT_MIGRATED = {"42P01", "42703", "42883"}


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database error, or None if the server sent none."""
    cause = error.__cause__ if isinstance(error, DatabaseError) else error
    return getattr(cause, "pgcode", None)


def is_server_error(error: BaseException) -> bool:
    """Return whether the server or the connection is at fault, and not the statement.

    The driver sometimes raises a plain DatabaseError if the connection ended between two
    statements.
    """
    return isinstance(error, (OperationalError, InterfaceError)) or type(error) is DatabaseError


def first_line(error: BaseException) -> str:
    """Return the first line of the message: the server adds details and the statement below it."""
    return str(error).strip().partition("\n")[0]

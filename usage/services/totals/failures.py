"""The reasons why a refresh failed, in one line for an operator."""

from django.conf import settings

from usage.database import explanations
from usage.database.errors import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    QUERY_CANCELED,
    SERIALIZATION_FAILURE,
    first_line,
    is_server_error,
    sqlstate,
)
from usage.services.raw import locks
from usage.services.totals import overflow

# Named in the error when a manual refresh, committed after our snapshot, wrote the same key.
OPEN_VIEW_KEY = "usage_daily_open_key"


def explain(error: Exception) -> str:
    """Return what happened and what to do next, in one line for an operator."""
    if (named := overflow.explain(error)) is not None:
        return str(named)
    line = first_line(error)
    match sqlstate(error):
        case code if code == QUERY_CANCELED:
            return (
                f"The refresh took longer than USAGE_REFRESH_TIMEOUT_SECONDS="
                f"{settings.USAGE_REFRESH_TIMEOUT_SECONDS} or was cancelled: {line}. Raise "
                "the setting if the raw tables have grown."
            )
        case code if code == LOCK_NOT_AVAILABLE:
            return (
                f"A table of totals stayed locked for {locks.RAW_LOCK_SECONDS} s: {line}. "
                "Find the session that holds it in pg_stat_activity. The next run tries again."
            )
        case code if code in (SERIALIZATION_FAILURE, DEADLOCK) or OPEN_VIEW_KEY in line:
            return (
                f"{line}. At the same time another session refreshed usage_daily_open by "
                "hand, or wrote to the tables of totals. The next run tries again."
            )
    if (cause := explanations.explain(error)) is not None:
        return cause
    if sqlstate(error) is None and is_server_error(error):
        return (
            f"{line}. The log of the database has the reason. PostgreSQL ends the session of "
            f"a worker that is frozen for {locks.IDLE_REFRESH_SECONDS} s. The next run goes on."
        )
    return line or type(error).__name__

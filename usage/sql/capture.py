"""Which triggers on the raw tables capture late keys: all of them, some or none."""

from collections.abc import Sequence

from usage import sql

RAW_TABLES = ("usage_datausagerecord", "usage_voiceusagerecord")
EVENTS = ("insert", "update", "delete", "truncate")

# The others refuse to take records of closed days away, which no check sees.
NEEDLESS_IN_A_WINDOW = ("insert", "truncate")

CREATE_ALL = sql.read("usage_log_late_keys", 1)


def drop(events: Sequence[str]) -> str:
    """The statements that take the triggers of these events off; of all: the function as well."""
    statements = [
        f"DROP TRIGGER IF EXISTS usage_log_late_keys_{event} ON {table};"
        for table in RAW_TABLES
        for event in events
    ]
    if set(events) == set(EVENTS):
        statements.append("DROP FUNCTION IF EXISTS usage_log_late_keys();")
    return "\n".join(statements)

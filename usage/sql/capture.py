"""The triggers on the raw tables that capture late keys, and those that each mode needs."""

from collections.abc import Iterable

from usage import sql

RAW_TABLES = ("usage_datausagerecord", "usage_voiceusagerecord")
TRIGGERS = (
    "usage_log_late_keys_insert",
    "usage_log_late_keys_update",
    "usage_log_late_keys_delete",
    "usage_log_late_keys_truncate",
    "usage_log_late_keys_move",
    "usage_note_statement",
)

# A window needs the others: they refuse to remove records of closed days, which no CHECK can.
NEEDLESS_IN_A_WINDOW = ("usage_log_late_keys_insert", "usage_log_late_keys_truncate")

VERSION = 2


def create() -> str:
    """Return the statements that create every trigger, with the functions they call."""
    return sql.read("usage_log_late_keys", VERSION)


def drop(triggers: Iterable[str] = TRIGGERS) -> str:
    """Return the statements that drop these triggers; for all triggers also their functions."""
    dropped = set(triggers)
    statements = [
        f"DROP TRIGGER IF EXISTS {trigger} ON {table};"
        for table in RAW_TABLES
        for trigger in TRIGGERS
        if trigger in dropped
    ]
    if dropped == set(TRIGGERS):
        statements += [
            "DROP FUNCTION IF EXISTS usage_log_late_keys();",
            "DROP FUNCTION IF EXISTS usage_note_statement();",
        ]
    return "\n".join(statements)

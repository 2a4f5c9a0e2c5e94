"""The triggers on the raw tables that capture late keys, and those that each mode needs."""

from collections.abc import Iterable

from usage import sql
from usage.models import RAW_TABLES, RECORD_MODELS

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


def types_of_this_release() -> list[sql.TypeInSQL]:
    """The usage types that the models know, as the table usage_type should have them."""
    return [
        sql.TypeInSQL(
            code.value, code.label, code.unit, model._meta.db_table, model.quantity_column
        )
        for code, model in RECORD_MODELS.items()
    ]


def create() -> str:
    """Return the statements that create every trigger, with the functions they call."""
    return sql.expand(sql.read("usage_log_late_keys", VERSION), types_of_this_release())


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

"""Checks before a refresh writes totals: sealed and open totals must not overlap, and the triggers
of the raw tables must write to the schema of these tables.

A restore, a renamed schema or a copy of the schema can break both without an error.
"""

from datetime import date

from django.db import connection

from usage.errors import MisplacedTotalsError, SearchPathError
from usage.models import UsageState

# The BRIN index finds the days from a given one on. Without statistics, as after a restore, the
# planner prefers to read the whole table or its whole primary key.
OTHER_PLANS = ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan")

SEALED_FROM = "SELECT day FROM usage_daily_sealed WHERE day >= %s LIMIT 1"

# Trigger functions of the raw tables whose search path is not the schema of these tables.
WRONG_SEARCH_PATHS = """
    SELECT DISTINCT
        format(
            'ALTER FUNCTION %%s SET search_path = %%s, pg_temp',
            function.oid::regprocedure,
            quote_ident(schema.nspname)
        )
    FROM usage_type
    INNER JOIN pg_trigger AS trigger ON trigger.tgrelid = usage_type.raw_table::regclass
    INNER JOIN pg_class AS raw ON raw.oid = trigger.tgrelid
    INNER JOIN pg_namespace AS schema ON schema.oid = raw.relnamespace
    INNER JOIN pg_proc AS function ON function.oid = trigger.tgfoid
    WHERE
        NOT trigger.tgisinternal
        AND function.proname = 'usage_log_late_keys'
        AND NOT coalesce(
            format('search_path=%%s, pg_temp', quote_ident(schema.nspname))
            = ANY(function.proconfig),
            FALSE
        )
"""


def refuse_misplaced(state: UsageState) -> None:
    """Raise MisplacedTotalsError or SearchPathError when a refresh would publish wrong totals."""
    if statements := search_path_statements():
        raise SearchPathError(
            "The triggers on the raw tables log late keys in another schema than that of these "
            f"tables: the schema was renamed, or restored as a copy. Run: "
            f"{'; '.join(statements)}; then: manage.py verify_usage --repair"
        )
    if (day := first_misplaced_day(state)) is not None:
        raise MisplacedTotalsError(
            f"usage_daily_sealed holds totals of {day}, but sealed_before in usage_state is "
            f"{state.sealed_before or 'NULL'}, so usage_daily_open counts the same records. "
            "A restore did not replace the row of usage_state. Run: manage.py check_restore"
        )


def search_path_statements() -> list[str]:
    """Return the statements that correct the search paths of the trigger functions."""
    with connection.cursor() as cursor:
        cursor.execute(WRONG_SEARCH_PATHS, [])
        return [statement for (statement,) in cursor]


def first_misplaced_day(state: UsageState) -> date | None:
    """Return a day at or after the watermark that has sealed totals, or None.

    Must be called in a transaction: it changes planner settings for its query.
    """
    with connection.cursor() as cursor:
        set_other_plans("off")
        cursor.execute(SEALED_FROM, [state.sealed_before or date.min])
        row = cursor.fetchone()
        set_other_plans("DEFAULT")
    return row[0] if row else None


def set_other_plans(value: str) -> None:
    """Turn plans without the BRIN index "off" in this transaction, or back to "DEFAULT"."""
    with connection.cursor() as cursor:
        for parameter in OTHER_PLANS:
            cursor.execute(f"SET LOCAL {parameter} = {value}")

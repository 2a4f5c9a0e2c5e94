"""What must be so before a refresh writes totals: the halves of usage_daily do not overlap, and
the triggers on the raw tables write to the schema that these tables are in.

A restore, a renamed schema or a copy beside it may break either without an error.
"""

from datetime import date

from django.db import connection

from usage.errors import MisplacedTotalsError, SearchPathError
from usage.models import UsageState

# The BRIN index finds the days from one on. Without statistics, as after a restore, the server
# would rather read the whole table or all of its primary key.
OTHER_PLANS = ("enable_seqscan", "enable_indexscan", "enable_indexonlyscan")

SEALED_FROM = "SELECT day FROM usage_daily_sealed WHERE day >= %s LIMIT 1"

# The functions of triggers on the raw tables that fix a search path, but not that of the tables.
LED_ELSEWHERE = """
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
    if statements := statements_to_lead_back():
        raise SearchPathError(
            "The triggers on the raw tables log late keys in another schema than that of these "
            f"tables, as after a schema was renamed or restored as a copy. Run: "
            f"{'; '.join(statements)}; then: manage.py verify_usage --repair"
        )
    if (day := first_misplaced_day(state)) is not None:
        raise MisplacedTotalsError(
            f"usage_daily_sealed holds totals of {day}, but days are sealed only before "
            f"{state.sealed_before or 'none at all'}: usage_daily_open counts the same records. "
            "A restore left the row of usage_state as it was. Run: manage.py check_restore"
        )


def statements_to_lead_back() -> list[str]:
    """The statements that give trigger functions the search path of the raw tables."""
    with connection.cursor() as cursor:
        cursor.execute(LED_ELSEWHERE, [])
        return [statement for (statement,) in cursor]


def first_misplaced_day(state: UsageState) -> date | None:
    """A day at or after the watermark that has sealed totals; None when there is none.

    Belongs into a transaction: it sets a parameter for the query alone.
    """
    with connection.cursor() as cursor:
        use_other_plans("off")
        cursor.execute(SEALED_FROM, [state.sealed_before or date.min])
        row = cursor.fetchone()
        use_other_plans("on")
    return row[0] if row else None


def use_other_plans(value: str) -> None:
    """Let the server use other plans than the BRIN index in this transaction: "on" or "off"."""
    with connection.cursor() as cursor:
        for parameter in OTHER_PLANS:
            cursor.execute(f"SET LOCAL {parameter} = {value}")

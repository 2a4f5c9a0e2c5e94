"""Session settings of a role or a database that would break our statements.

Some change the SQL that the server generates for itself, as REFRESH MATERIALIZED VIEW CONCURRENTLY
does. Some change the meaning of a statement. Some forbid the planner the plan that makes a refresh
fast. Every connection of ours resets them to the built-in defaults of PostgreSQL.
"""

from typing import Any

from django.db.backends.signals import connection_created

# Always reset, because our statements rely on the defaults.
MEANING = [
    "quote_all_identifiers",
    "standard_conforming_strings",
    "transform_null_equals",
    "array_nulls",
    "IntervalStyle",
    "default_transaction_isolation",
    "default_transaction_deferrable",
    "default_table_access_method",
    "restrict_nonsystem_relation_kind",
    "row_security",
]
# Reset only if a role or a database sets them. Values in the configuration of the server were
# chosen for its machine, as were costs and memory, which stay as they are.
PLANNING = ["from_collapse_limit", "join_collapse_limit", "plan_cache_mode", "constraint_exclusion"]
PARALLEL = ["debug_parallel_query", "force_parallel_mode"]

# Settings that this version of the server does not have are skipped.
RESET_SETTINGS = """
    SELECT set_config(name, boot_val, FALSE)
    FROM pg_catalog.pg_settings
    WHERE
        setting IS DISTINCT FROM boot_val
        AND (
            name = ANY (%(meaning)s)
            OR (
                source IN ('database', 'user', 'database user')
                AND (name = ANY (%(planning)s) OR name ~ '^(enable|geqo)')
            )
        )
"""


def reset_settings(connection: Any, **_kwargs: Any) -> None:
    """Reset the settings of a new connection."""
    with connection.cursor() as cursor:
        cursor.execute(RESET_SETTINGS, {"meaning": MEANING + PARALLEL, "planning": PLANNING})


def set_on_every_connection() -> None:
    """Reset the settings of every connection that is made from now on."""
    connection_created.connect(reset_settings)

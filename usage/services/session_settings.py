"""Settings of a session that a role or a database may have, and that our statements must not have.

Some change the SQL that the server writes for itself (REFRESH MATERIALIZED VIEW CONCURRENTLY does
so), some change what a statement means, some leave the planner without the plan that makes a
refresh quick. Every connection of ours takes the value that the server was built with instead.
"""

from typing import Any

from django.db.backends.signals import connection_created

# No matter who set them: our statements are written for these.
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
# Only if a role or a database has them: what the whole server has was chosen for its machine, and
# so were costs and memory.
PLANNING = ["from_collapse_limit", "join_collapse_limit", "plan_cache_mode", "constraint_exclusion"]
PARALLEL = ["debug_parallel_query", "force_parallel_mode"]

# A setting that this version of the server does not have is left out.
SET_THEM = """
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


def set_ours(connection: Any, **_kwargs: Any) -> None:
    """Give a new connection the settings that our statements are written for."""
    with connection.cursor() as cursor:
        cursor.execute(SET_THEM, {"meaning": MEANING + PARALLEL, "planning": PLANNING})


def set_on_every_connection() -> None:
    """From now on."""
    connection_created.connect(set_ours)

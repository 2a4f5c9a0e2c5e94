"""The check that the triggers that log late keys are on, and were never off.

While a trigger is off, no late key is logged, and sealed totals become wrong. So each refresh
checks the triggers. If one was off, all sealed days with raw records become unaudited, and
usage/services/totals/unaudited_days.py computes one of them again at each refresh.
"""

from uuid import UUID

from django.db import connection

from usage.errors import RawTableLockedError
from usage.models import UsageState
from usage.services.raw.locks import lock_raw_tables, retry_locked
from usage.sql import capture

PARAMETERS = {
    "triggers": list(capture.TRIGGERS),
    "needless": list(capture.NEEDLESS_IN_A_WINDOW),
}

# One row a fault. Citus refuses triggers on distributed tables: having no trigger is right there.
FAULTS = """
    WITH wanted AS (
        SELECT usage_type.raw_table, triggers.name AS trigger_name
        FROM usage_state
        CROSS JOIN usage_type
        CROSS JOIN unnest(%(triggers)s::text[]) AS triggers (name)
        WHERE usage_state.late_keys = 'triggers' OR triggers.name <> ALL(%(needless)s::text[])
    ),

    present AS (
        SELECT pg_class.relname, pg_trigger.tgname, pg_trigger.tgenabled, pg_trigger.tgparentid
        FROM pg_trigger
        INNER JOIN pg_class ON pg_class.oid = pg_trigger.tgrelid
        WHERE
            pg_trigger.tgname = ANY(%(triggers)s::text[])
            AND pg_class.relnamespace = (
                SELECT relnamespace FROM pg_class WHERE oid = 'usage_state'::regclass
            )
    ),

    looked_at AS (
        SELECT wanted.raw_table AS relation, wanted.trigger_name, present.tgenabled
        FROM wanted
        LEFT JOIN present
            ON present.relname = wanted.raw_table AND present.tgname = wanted.trigger_name
        WHERE
            EXISTS (SELECT FROM present)
            OR NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
            OR EXISTS (SELECT FROM usage_state WHERE late_keys = 'triggers')
        UNION ALL
        -- Each partition has its own clones of the row triggers of its table.
        SELECT relname, tgname, tgenabled FROM present WHERE tgparentid <> 0
    )

    SELECT format(
        'trigger %%s of %%s %%s',
        trigger_name,
        relation,
        CASE tgenabled
            WHEN 'D' THEN 'is disabled'
            WHEN 'O' THEN 'does not fire for replicated writes (it is ORIGIN, not ALWAYS)'
            WHEN 'R' THEN 'fires for replicated writes only (it is REPLICA, not ALWAYS)'
            ELSE 'is missing'
        END
    )
    FROM looked_at
    WHERE tgenabled IS DISTINCT FROM 'A'
    ORDER BY relation, trigger_name
"""

# A trigger that was turned off and on again has a new xmin. The clone on a partition has the xmin
# of its parent trigger, or of the ATTACH of its partition, unless the clone itself was altered.
DIGEST = """
    WITH ours AS (
        SELECT oid, tgrelid, tgname, tgenabled, xmin AS version, tgparentid
        FROM pg_trigger
        WHERE tgname = ANY(%(triggers)s::text[])
    ),

    watched AS (
        SELECT tgrelid, tgname, tgenabled, version
        FROM ours
        WHERE tgparentid = 0 AND tgrelid IN (SELECT raw_table::regclass FROM usage_type)
        UNION ALL
        SELECT clone.tgrelid, clone.tgname, clone.tgenabled, clone.version
        FROM ours AS clone
        INNER JOIN ours AS parent ON parent.oid = clone.tgparentid
        INNER JOIN pg_inherits ON pg_inherits.inhrelid = clone.tgrelid
        WHERE clone.version <> parent.version AND clone.version <> pg_inherits.xmin
    )

    SELECT md5(coalesce(string_agg(
        format('%%s %%s %%s %%s', tgrelid, tgname, tgenabled, version), ','
        ORDER BY tgrelid, tgname
    ), ''))::uuid
    FROM watched
"""

ADVICE = "changes of sealed days are not captured. Run: manage.py enable_triggers"


def faults() -> list[str]:
    """Return the faults of the triggers, one clause each."""
    with connection.cursor() as cursor:
        cursor.execute(FAULTS, PARAMETERS)
        return [fault for (fault,) in cursor]


def digest() -> UUID:
    """Return a digest of the triggers, which differs if one was altered or made again."""
    with connection.cursor() as cursor:
        cursor.execute(DIGEST, PARAMETERS)
        (found,) = cursor.fetchone()
    return UUID(str(found))


def enable(*, dry_run: bool = False) -> list[str]:
    """Make every trigger again, turned on; return the faults that this mends.

    Writers of raw records wait meanwhile. The next refresh finds changed triggers, so it begins to
    audit sealed days. Raises RefreshRunningError while a refresh runs, and RawTableLockedError if
    a raw table stays locked.
    """
    found = faults()
    if found and not dry_run and not retry_locked(_enable):
        raise RawTableLockedError(
            "No trigger was changed: a writer or reader of raw records held the lock of a table. "
            "Find its session in pg_stat_activity, then run: manage.py enable_triggers"
        )
    return found


def _enable() -> None:
    lock_raw_tables("ACCESS EXCLUSIVE")
    with connection.cursor() as cursor:
        cursor.execute(capture.drop())
        cursor.execute(capture.create())
        if UsageState.objects.get().is_window:
            cursor.execute(capture.drop(capture.NEEDLESS_IN_A_WINDOW))

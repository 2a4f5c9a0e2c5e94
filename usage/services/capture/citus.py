"""Distribution of the raw tables over the servers of a Citus cluster.

Only raw records grow fast, so the totals stay on the coordinator. There one commit changes all of
them. Also, Citus does not push a condition down to the two halves of usage_daily, so a query about
one subscription would read every sealed total if these were distributed.
"""

from django.db import connections, transaction

from usage.errors import DistributionError
from usage.models import RAW_TABLES, UsageState
from usage.services.raw.locks import take_refresh_lock
from usage.sql import capture

# PostgreSQL inlines a function in SQL after Citus has looked for distributed tables: the query
# would find no record on any server, and report no error. A function in PL/pgSQL is not inlined.
TOTALS_OF_DAYS = r"""
DO $do$
BEGIN
    EXECUTE (
        SELECT format(
            'CREATE OR REPLACE FUNCTION usage_totals_of_days(%s) RETURNS %s'
            ' LANGUAGE plpgsql STABLE AS %L',
            pg_get_function_arguments(pg_proc.oid),
            pg_get_function_result(pg_proc.oid),
            E'#variable_conflict use_column\nBEGIN RETURN QUERY' || prosrc || '; END'
        )
        FROM pg_proc
        INNER JOIN pg_language ON pg_language.oid = prolang
        WHERE pg_proc.oid = 'usage_totals_of_days(date, date)'::regprocedure AND lanname = 'sql'
    );
EXCEPTION
    WHEN null_value_not_allowed THEN NULL; -- the function is in PL/pgSQL already
END
$do$
"""

# In a window no key is late, so live totals are the sealed totals and the query of the open view.
LIVE = """
DO $do$
BEGIN
    EXECUTE format(
        'CREATE OR REPLACE VIEW usage_daily_live AS'
        ' SELECT %1$s FROM usage_daily_sealed UNION ALL SELECT %1$s FROM (%2$s) AS open_now',
        'subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at',
        rtrim(pg_get_viewdef('usage_daily_open'::regclass), ';')
    );
END
$do$
"""

# A generic plan would query every server; a custom plan queries those of its subscriptions.
LIVE_OF = "ALTER FUNCTION usage_daily_live_of(bigint[], date, date) RESET plan_cache_mode"


def distribute(*, dry_run: bool = False) -> list[str]:
    """Distribute the raw tables by subscription; return those that were not distributed before.

    Meanwhile writers of raw records wait, readers of totals do not. Raises DistributionError when
    another step must be done first, RefreshRunningError while a refresh is running.
    """
    if not _has_citus("default"):
        raise DistributionError(
            "The extension citus is missing in this database. Run as a superuser on the "
            "coordinator and on every worker: CREATE EXTENSION citus; then run on the "
            "coordinator: SELECT citus_add_node('address of a worker', 5432)"
        )
    with transaction.atomic(durable=True), connections["default"].cursor() as cursor:
        take_refresh_lock()
        spread = distributed_tables()
        missing = [table for table in RAW_TABLES if table not in spread]
        if not missing:
            return []
        state = UsageState.objects.get()
        if not state.is_window:
            raise DistributionError(
                "Citus refuses the triggers that log late records. Set USAGE_LATE_KEYS=window "
                "and run first: manage.py switch_late_keys"
            )
        cursor.execute("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards")
        if cursor.fetchone() == (0,):
            raise DistributionError(
                "No server of the cluster can store records. Run on the coordinator: "
                "SELECT citus_add_node('address of a worker', 5432)"
            )
        if not dry_run:
            cursor.execute("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")
            cursor.execute(capture.drop())
            # The CHECK on closed days would refuse to copy their records that are not dropped yet.
            cursor.execute("SELECT usage_close_days(NULL)")
            for table in missing:
                cursor.execute("SELECT create_distributed_table(%s, 'subscription_id')", [table])
            cursor.execute("SELECT usage_close_days(%s)", [state.fence_day or state.raw_kept_from])
            for table in missing:
                # The coordinator keeps the rows that were copied to the workers.
                cursor.execute("SELECT truncate_local_data_after_distributing_table(%s)", [table])
            adapt()
    return missing


def distributed_tables(using: str = "default") -> list[str]:
    """Return the raw tables that are distributed over servers."""
    if not _has_citus(using):
        return []
    with connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_dist_partition"
            " INNER JOIN pg_class ON pg_class.oid = logicalrelid"
            " WHERE relname = ANY(%s) ORDER BY relname",
            [RAW_TABLES],
        )
        return [name for (name,) in cursor]


def adapt(using: str = "default") -> None:
    """Replace the objects that read raw records by ones that query all servers.

    Call it after each migrate, which may bring back the originals.
    """
    if distributed_tables(using):
        with connections[using].cursor() as cursor:
            for statement in (TOTALS_OF_DAYS, LIVE, LIVE_OF):
                cursor.execute(statement)


def _has_citus(using: str) -> bool:
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus')")
        (is_there,) = cursor.fetchone()
    return is_there

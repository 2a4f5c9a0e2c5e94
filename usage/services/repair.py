"""The repair of totals of sealed days whose raw records changed.

Everything here runs inside the transaction of the refresh (or of a rebuild), in REPEATABLE READ
and under the refresh lock, and notes its changes for the period totals.
"""

from datetime import date

from django.db import connection

from usage.models import UsageState, UsageType
from usage.services.changes import FINGERPRINT, Changes

# To read a whole day is cheaper than to look up more than this share of its keys.
WHOLE_DAY_SHARE = 0.08
WHOLE_DAY_KEYS = 1_000

# A repair writes only rows that differ.
WRITE_FRESH = """
    noted AS (
        INSERT INTO usage_total_change (
            subscription_id, day, usage_type, total_price, total_usage, record_count
        )
        SELECT
            subscription_id,
            day,
            usage_type,
            coalesce(fresh.total_price, 0) - coalesce(known.total_price, 0),
            coalesce(fresh.total_usage, 0) - coalesce(known.total_usage, 0),
            coalesce(fresh.record_count, 0) - coalesce(known.record_count, 0)
        FROM fresh
        FULL JOIN known USING (subscription_id, day, usage_type)
        WHERE
            (fresh.total_price, fresh.total_usage, fresh.record_count)
            IS DISTINCT FROM
            (known.total_price, known.total_usage, known.record_count)
            AND (fresh.record_count IS NOT NULL OR %(remove)s)
    ),

    removed AS (
        -- FULL JOIN, because it always uses a hash. The log is vacuumed while it is empty, so the
        -- planner expects no rows, and a nested loop would compare each key with every other key.
        DELETE FROM usage_daily_sealed AS sealed
        USING (
            SELECT subscription_id, day, usage_type
            FROM known
            FULL JOIN fresh USING (subscription_id, day, usage_type)
            WHERE fresh.record_count IS NULL AND %(remove)s
        ) AS gone
        WHERE
            sealed.subscription_id = gone.subscription_id
            AND sealed.day = gone.day
            AND sealed.usage_type = gone.usage_type
        RETURNING
            sealed.subscription_id,
            sealed.day,
            sealed.usage_type,
            sealed.total_price,
            sealed.total_usage,
            sealed.record_count
    ),

    written AS (
        INSERT INTO usage_daily_sealed AS sealed (
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        )
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM fresh
        ON CONFLICT (subscription_id, day, usage_type) DO UPDATE SET
            total_price = excluded.total_price,
            total_usage = excluded.total_usage,
            record_count = excluded.record_count,
            last_usage_at = excluded.last_usage_at
        WHERE
            (sealed.total_price, sealed.total_usage, sealed.record_count, sealed.last_usage_at)
            IS DISTINCT FROM
            (
                excluded.total_price,
                excluded.total_usage,
                excluded.record_count,
                excluded.last_usage_at
            )
        RETURNING
            sealed.subscription_id,
            sealed.day,
            sealed.usage_type,
            sealed.total_price,
            sealed.total_usage,
            sealed.record_count,
            -- The row before the change: a subquery reads the snapshot of its statement.
            (
                SELECT before
                FROM usage_daily_sealed AS before
                WHERE
                    before.subscription_id = sealed.subscription_id
                    AND before.day = sealed.day
                    AND before.usage_type = sealed.usage_type
            ) AS before
    ),

    difference AS (
        SELECT subscription_id, day, usage_type, total_price, total_usage, record_count
        FROM written
        UNION ALL
        SELECT
            subscription_id,
            day,
            usage_type,
            -(before).total_price AS total_price,
            -(before).total_usage AS total_usage,
            -(before).record_count AS record_count
        FROM written
        WHERE (before).record_count IS NOT NULL
        UNION ALL
        SELECT subscription_id, day, usage_type, -total_price, -total_usage, -record_count
        FROM removed
    )
"""

RESEAL_DAY = f"""
    WITH fresh AS MATERIALIZED (
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(day)s, %(day)s)
        WHERE usage_type = %(usage_type)s
    ),

    known AS MATERIALIZED (
        SELECT subscription_id, day, usage_type, total_price, total_usage, record_count
        FROM usage_daily_sealed
        WHERE day = %(day)s AND usage_type = %(usage_type)s
    ),
    {WRITE_FRESH}
    SELECT
        (SELECT count(*) FROM removed) + (SELECT count(*) FROM written),
        (SELECT {FINGERPRINT} FROM difference)
"""  # noqa: S608 - the parts are constants of this module

REPAIR_KEYS = f"""
    WITH consumed AS (
        DELETE FROM usage_late_key RETURNING subscription_id, day, usage_type
    ),

    wanted AS MATERIALIZED (
        SELECT DISTINCT subscription_id, day, usage_type
        FROM consumed
        WHERE
            day >= %(kept_from)s
            AND day < %(sealed_before)s
            AND (day, usage_type) NOT IN (
                SELECT whole.day, whole.usage_type
                FROM unnest(%(days)s::date[], %(usage_types)s::text[]) AS whole (day, usage_type)
            )
    ),

    fresh AS MATERIALIZED (
        SELECT
            wanted.subscription_id,
            wanted.day,
            wanted.usage_type,
            totals.total_price,
            totals.total_usage,
            totals.record_count,
            totals.last_usage_at
        FROM wanted
        CROSS JOIN LATERAL usage_totals_of_key(
            wanted.subscription_id, wanted.day, wanted.usage_type
        ) AS totals
    ),

    known AS MATERIALIZED (
        SELECT
            sealed.subscription_id,
            sealed.day,
            sealed.usage_type,
            sealed.total_price,
            sealed.total_usage,
            sealed.record_count
        FROM wanted
        INNER JOIN usage_daily_sealed AS sealed USING (subscription_id, day, usage_type)
    ),
    {WRITE_FRESH}
    SELECT
        (SELECT count(*) FROM wanted),
        (SELECT {FINGERPRINT} FROM difference),
        (SELECT min(day) FROM difference)
"""  # noqa: S608 - the parts are constants of this module


def repair_late_keys(state: UsageState, changes: Changes) -> int:
    """Compute the late keys again and empty the log; return how many keys were repaired."""
    if state.is_window:
        # The log can hold keys that were logged before the switch to a window; their days are open.
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM usage_late_key")
        return 0
    if state.sealed_before is None:
        bounds = {"kept_from": date.max, "sealed_before": date.min}
    else:
        bounds = {
            "kept_from": state.raw_kept_from or date.min,
            "sealed_before": state.sealed_before,
        }
    whole = _days_cheaper_read_whole(bounds)
    for day, usage_type, _ in whole:
        _reseal(day, usage_type, changes, remove=True)
    with connection.cursor() as cursor:
        cursor.execute(
            REPAIR_KEYS,
            {
                **bounds,
                "remove": True,
                "days": [day for day, _, _ in whole],
                "usage_types": [usage_type for _, usage_type, _ in whole],
            },
        )
        by_key, fingerprint, first_day = cursor.fetchone()
    if first_day is not None:
        changes.add_written(fingerprint, first_day)
    return by_key + sum(keys for _, _, keys in whole)


def reseal(state: UsageState, day: date, changes: Changes, *, remove: bool = True) -> int:
    """Compute a sealed day again; return how many rows changed. Without `remove`, keep totals that
    have no raw record."""
    if state.sealed_before is None or day >= state.sealed_before:
        raise ValueError(f"{day} is open: the view has its totals")
    return sum(_reseal(day, usage_type, changes, remove=remove) for usage_type in UsageType.values)


def _reseal(day: date, usage_type: str, changes: Changes, *, remove: bool) -> int:
    with connection.cursor() as cursor:
        cursor.execute(RESEAL_DAY, {"day": day, "usage_type": usage_type, "remove": remove})
        changed, fingerprint = cursor.fetchone()
    changes.add_written(fingerprint, day)
    return changed


def _days_cheaper_read_whole(bounds: dict[str, date]) -> list[tuple[date, str, int]]:
    """Return (day, usage type, number of late keys) where it is cheaper to read the whole day."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT late.day, late.usage_type, late.key_count
            FROM (
                SELECT day, usage_type, count(DISTINCT subscription_id) AS key_count
                FROM usage_late_key
                WHERE day >= %(kept_from)s AND day < %(sealed_before)s
                GROUP BY day, usage_type
                HAVING count(*) >= %(keys)s
            ) AS late
            WHERE late.key_count >= %(share)s * (
                SELECT count(*)
                FROM usage_daily_sealed AS sealed
                WHERE sealed.day = late.day AND sealed.usage_type = late.usage_type
            )
            """,
            {**bounds, "keys": WHOLE_DAY_KEYS, "share": WHOLE_DAY_SHARE},
        )
        return cursor.fetchall()

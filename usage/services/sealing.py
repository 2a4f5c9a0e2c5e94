"""Sealing days that are over, and repairing keys that changed afterwards.

Everything here but prepare() runs inside the transaction of the refresh (or of a rebuild), in
REPEATABLE READ and under the refresh lock.
"""

import time
from collections.abc import Iterable
from datetime import date, timedelta

from django.conf import settings
from django.db import connection, transaction

from usage.models import UsageState, UsageType
from usage.services import clock
from usage.services.fences import draw_fence, has_passed, is_from_another_server
from usage.services.locks import take_refresh_lock
from usage.services.partitions import RAW_TABLES, partition_days

DAY_ZERO = date(2000, 1, 1)

# One transaction seals for about this long, so that readers see progress and a kill costs little.
SEAL_SECONDS = 60

# Reading a whole day is cheaper than looking up more than this share of its keys.
WHOLE_DAY_SHARE = 0.08
WHOLE_DAY_KEYS = 1_000

SEAL_DAY = """
    INSERT INTO usage_daily_sealed (
        subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
    )
    SELECT
        subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
    FROM usage_totals_of_days(%(day)s, %(day)s)
    -- The order of the primary key: each of its pages is visited once.
    ORDER BY subscription_id, usage_type
"""

# What is equal stays untouched: a repair writes only what changed.
WRITE_FRESH = """
    removed AS (
        DELETE FROM usage_daily_sealed AS sealed
        USING wanted
        WHERE
            sealed.subscription_id = wanted.subscription_id
            AND sealed.day = wanted.day
            AND sealed.usage_type = wanted.usage_type
            AND NOT EXISTS (
                SELECT FROM fresh
                WHERE
                    fresh.subscription_id = sealed.subscription_id
                    AND fresh.day = sealed.day
                    AND fresh.usage_type = sealed.usage_type
            )
        RETURNING 1
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
        RETURNING 1
    )
"""

RESEAL_DAY = f"""
    WITH fresh AS MATERIALIZED (
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(day)s, %(day)s)
        WHERE usage_type = %(usage_type)s
    ),

    wanted AS (
        SELECT subscription_id, day, usage_type
        FROM usage_daily_sealed
        WHERE day = %(day)s AND usage_type = %(usage_type)s
    ),
    {WRITE_FRESH}
    SELECT (SELECT count(*) FROM removed) + (SELECT count(*) FROM written)
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
    {WRITE_FRESH}
    SELECT count(*) FROM wanted
"""  # noqa: S608 - the parts are constants of this module


def prepare() -> None:
    """Announce the next days to seal, when there are any: log first, then draw the fence.

    Runs on its own, before the transaction of the refresh. A writer whose trigger did not see the
    new logging_before began before the fence, and the days wait for it to end.
    """
    if settings.USAGE_OPEN_DAYS is None:
        return
    with transaction.atomic(durable=True):
        take_refresh_lock()
        state = UsageState.objects.get()
        if state.paused_at is not None:
            return
        reached = state.sealed_before or date.min
        is_pending = state.fence_day is not None and state.fence_day > reached
        if is_pending and not is_from_another_server(state.fence):
            return
        target = (
            state.fence_day
            if is_pending
            else clock.today() - timedelta(settings.USAGE_OPEN_DAYS - 1)
        )
        if target is None or (not is_pending and target <= reached):
            return
        move_forward("usage_logging_before", target)
    # The sequence has moved for everybody: what begins from here on logs.
    with transaction.atomic(durable=True):
        take_refresh_lock()
        UsageState.objects.update(fence=draw_fence(), fence_day=target)


def move_forward(sequence: str, day: date) -> None:
    """Move a day number that triggers read. It never goes back, and no rollback undoes it."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval('{sequence}', greatest(last_value, %s)) FROM {sequence}",  # noqa: S608
            [(day - DAY_ZERO).days],
        )


def seal(state: UsageState) -> int:
    """Seal the days before the fence day, oldest first, if the fence has passed.

    Returns how many days were sealed and leaves state.sealed_before where it got to; the rest is
    left to the next transaction when time is up.
    """
    if state.fence_day is None or state.fence_day <= (state.sealed_before or date.min):
        return 0
    if not has_passed(state.fence):
        return 0
    began = time.monotonic()
    sealed = 0
    with connection.cursor() as cursor:
        for day in days_with_records(state.sealed_before, state.fence_day):
            if sealed and time.monotonic() - began > SEAL_SECONDS:
                state.sealed_before = day
                return sealed
            cursor.execute(SEAL_DAY, {"day": day})
            sealed += 1
    state.sealed_before = state.fence_day
    return sealed


def repair(state: UsageState) -> int:
    """Compute the late keys again and empty the log; returns how many keys were repaired."""
    if state.sealed_before is None:
        bounds = {"kept_from": date.max, "sealed_before": date.min}
    else:
        bounds = {
            "kept_from": state.raw_kept_from or date.min,
            "sealed_before": state.sealed_before,
        }
    whole = _days_cheaper_read_whole(bounds)
    with connection.cursor() as cursor:
        for day, usage_type, _ in whole:
            cursor.execute(RESEAL_DAY, {"day": day, "usage_type": usage_type})
        cursor.execute(
            REPAIR_KEYS,
            {
                **bounds,
                "days": [day for day, _, _ in whole],
                "usage_types": [usage_type for _, usage_type, _ in whole],
            },
        )
        (by_key,) = cursor.fetchone()
    return by_key + sum(keys for _, _, keys in whole)


def reseal(day: date) -> int:
    """Compute a sealed day again; returns how many rows changed."""
    changed = 0
    with connection.cursor() as cursor:
        for usage_type in UsageType.values:
            cursor.execute(RESEAL_DAY, {"day": day, "usage_type": usage_type})
            changed += cursor.fetchone()[0]
    return changed


def _days_cheaper_read_whole(bounds: dict[str, date]) -> list[tuple[date, str, int]]:
    """The (day, usage type, late keys) of which so many keys are late that the day is read."""
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


def days_with_records(first: date | None, end: date) -> Iterable[date]:
    """The days from first (None: the oldest) up to end, excluded, that may hold raw records."""
    days: set[date] = set()
    with connection.cursor() as cursor:
        for table in RAW_TABLES:
            # Where clocks go back over midnight, a partition may hold the end of the day before.
            for day in partition_days(table):
                days |= {day - timedelta(1), day}
            cursor.execute(
                f"SELECT DISTINCT usage_day(usage_date) FROM {table}_default"  # noqa: S608
            )
            days |= {day for (day,) in cursor}
    return sorted(day for day in days if day < end and (first is None or day >= first))

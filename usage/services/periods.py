"""Period totals: what every change of the daily totals adds to months and to all days.

Whoever changes daily totals does it in a transaction of its own under the refresh lock: it calls
collect_changes(), notes in usage_total_change what each of its statements added and took away, and
ends with apply_changes(). So readers see daily and period totals change at once, and the cost
follows the change, not the days of a month or the history.
"""

from datetime import date
from decimal import Decimal

from django.db import connection

from usage.models import PeriodTotal

ALL_DAYS = PeriodTotal.ALL_DAYS

COLLECT = """
    CREATE TEMPORARY TABLE usage_total_change (
        subscription_id bigint NOT NULL,
        day date NOT NULL,
        usage_type text NOT NULL,
        price numeric NOT NULL,
        quantity bigint NOT NULL,
        records bigint NOT NULL
    ) ON COMMIT DROP
"""

# What was added and what was taken away cancel out in the sums: a day that is sealed leaves the
# open view with the same totals and changes no period.
APPLY = """
    WITH monthly AS MATERIALIZED (
        SELECT
            subscription_id,
            date_trunc('month', day::timestamp)::date AS period,
            usage_type,
            sum(price) AS price,
            sum(quantity)::bigint AS quantity,
            sum(records)::bigint AS records
        FROM usage_total_change
        GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
        HAVING sum(price) <> 0 OR sum(quantity) <> 0 OR sum(records) <> 0
    ),

    change AS MATERIALIZED (
        SELECT subscription_id, period, usage_type, price, quantity, records FROM monthly
        UNION ALL
        SELECT
            subscription_id,
            %(all_days)s::date AS period,
            usage_type,
            sum(price) AS price,
            sum(quantity)::bigint AS quantity,
            sum(records)::bigint AS records
        FROM monthly
        GROUP BY subscription_id, usage_type
    ),

    -- In the order of the primary key: each of its pages is visited once.
    touched AS MATERIALIZED (
        SELECT subscription_id, array_agg(DISTINCT period) AS periods
        FROM change
        GROUP BY subscription_id
        ORDER BY subscription_id
    ),

    -- Both types of each period: when one changes, the other may become the largest.
    known AS (
        SELECT
            total.subscription_id,
            total.period,
            total.usage_type,
            total.total_price,
            total.total_usage,
            total.record_count,
            total.is_largest,
            total.ctid AS place
        FROM touched
        INNER JOIN usage_period_total AS total
            ON
                touched.subscription_id = total.subscription_id
                AND total.period = ANY(touched.periods)
    ),

    summed AS (
        SELECT
            subscription_id,
            period,
            usage_type,
            coalesce(known.total_price, 0) + coalesce(change.price, 0) AS total_price,
            coalesce(known.total_usage, 0) + coalesce(change.quantity, 0) AS total_usage,
            coalesce(known.record_count, 0) + coalesce(change.records, 0) AS record_count,
            change.records IS NOT NULL AS is_changed,
            known.is_largest AS was_largest,
            known.place
        FROM known
        FULL JOIN change USING (subscription_id, period, usage_type)
    ),

    ranked AS MATERIALIZED (
        SELECT
            subscription_id,
            period,
            usage_type,
            total_price,
            total_usage,
            record_count,
            is_changed,
            was_largest,
            place,
            row_number() OVER (
                PARTITION BY subscription_id, period
                ORDER BY record_count <= 0, total_price DESC, usage_type
            ) = 1 AS is_largest
        FROM summed
    ),

    -- By their place, which nobody else changes: looking them up by key again would take as long
    -- as everything before.
    removed AS (
        DELETE FROM usage_period_total AS total
        USING ranked
        WHERE total.ctid = ranked.place AND ranked.record_count <= 0
    ),

    updated AS (
        UPDATE usage_period_total AS total
        SET
            total_price = ranked.total_price,
            total_usage = ranked.total_usage,
            record_count = ranked.record_count,
            is_largest = ranked.is_largest
        FROM ranked
        WHERE
            total.ctid = ranked.place
            AND ranked.record_count > 0
            AND (ranked.is_changed OR ranked.is_largest <> ranked.was_largest)
    )

    INSERT INTO usage_period_total (
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    )
    SELECT
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    FROM ranked
    WHERE place IS NULL AND record_count > 0
"""

NOTE_REPLACED_ROWS = """
    INSERT INTO usage_total_change (subscription_id, day, usage_type, price, quantity, records)
    SELECT
        gone.subscription_id,
        gone.day,
        gone.usage_type,
        -gone.total_price,
        -gone.total_usage,
        -gone.record_count
    FROM usage_refresh_daily_open() AS refreshed (transaction_id)
    CROSS JOIN LATERAL usage_daily_open_touched_by(refreshed.transaction_id) AS gone
"""

NOTE_NEW_ROWS = """
    INSERT INTO usage_total_change (subscription_id, day, usage_type, price, quantity, records)
    SELECT subscription_id, day, usage_type, total_price, total_usage, record_count
    FROM usage_daily_open_touched_by(pg_current_xact_id())
"""

# What is missing from the months, as one change each: nothing where they are right.
NOTE_WHAT_IS_MISSING = """
    INSERT INTO usage_total_change (subscription_id, day, usage_type, price, quantity, records)
    SELECT
        subscription_id,
        date_trunc('month', day::timestamp)::date AS month,
        usage_type,
        sum(total_price),
        sum(total_usage),
        sum(record_count)
    FROM usage_daily
    WHERE day >= %(first_month)s
    GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
    UNION ALL
    SELECT
        subscription_id, period, usage_type, -total_price, -total_usage, -record_count
    FROM usage_period_total
    WHERE period >= %(first_month)s AND period <> %(all_days)s
"""

# Another number means other rows: every key and total has a part in it.
OPEN_DIGEST = """
    count(*) + coalesce(
        sum(total_price) + sum(
            hashint8extended(
                subscription_id # hash_numeric_extended(total_price, 0),
                hashint8extended(
                    total_usage,
                    hashtextextended(
                        usage_type, record_count # ((day - date '2000-01-01')::bigint << 40)
                    )
                )
            )
        ),
        0
    )
"""


def collect_changes() -> None:
    """Begin to note, until the transaction ends. It takes the snapshot, if nothing did before."""
    with connection.cursor() as cursor:
        cursor.execute(COLLECT)


def refresh_open_view_and_note_changes() -> None:
    """Refresh the open view concurrently and note what that changed.

    A key that vanished leaves nothing behind to find it by: the first statement still sees the
    rows that the refresh within it replaced or removed.
    """
    with connection.cursor() as cursor:
        cursor.execute(NOTE_REPLACED_ROWS)
        cursor.execute(NOTE_NEW_ROWS)


def refresh_open_view() -> None:
    """Concurrently, so that readers go on; plainly when the view was never filled."""
    concurrently = "CONCURRENTLY" if open_view_is_filled() else ""
    with connection.cursor() as cursor:
        cursor.execute(f"REFRESH MATERIALIZED VIEW {concurrently} usage_daily_open")


def open_view_is_filled() -> bool:
    """Whether the open view was ever filled: until then whoever reads it gets an error."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relispopulated FROM pg_class WHERE oid = 'usage_daily_open'::regclass"
        )
        (is_filled,) = cursor.fetchone()
    return is_filled


def open_digest() -> Decimal | None:
    """A fingerprint of the open view, or None when it was never filled."""
    if not open_view_is_filled():
        return None
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {OPEN_DIGEST} FROM usage_daily_open")  # noqa: S608 - a constant
        return cursor.fetchone()[0]


def note_differences(first_day: date | None) -> None:
    """Forget what was noted of the months from that of first_day on (None: of every month), and
    note instead what is missing from their totals."""
    first_month = first_day.replace(day=1) if first_day else ALL_DAYS
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_total_change WHERE day >= %s", [first_month])
        if first_day is None:
            cursor.execute("DELETE FROM usage_period_total")
        cursor.execute(NOTE_WHAT_IS_MISSING, {"first_month": first_month, "all_days": ALL_DAYS})


def apply_changes() -> None:
    """Add what was noted to the period totals: once, at the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute(APPLY, {"all_days": ALL_DAYS})


def has_many_dead_rows() -> bool:
    """Whether there is more than one old version to ten rows of the period totals.

    The server looks for those once a minute by itself, and a refresh every few seconds may have
    changed every row several times by then.
    """
    with connection.cursor() as cursor:
        # Else the server counts what this session did up to a second later.
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT n_dead_tup > n_live_tup / 10 FROM pg_stat_all_tables"
            " WHERE relid = 'usage_period_total'::regclass"
        )
        (has_many,) = cursor.fetchone()
    return has_many

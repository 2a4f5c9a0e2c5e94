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

# What a statement before it has added and taken away cancels out in the sums: a day that is
# sealed leaves the open view with the same totals and changes no period.
APPLY = """
    WITH monthly AS MATERIALIZED (
        SELECT
            subscription_id,
            date_trunc('month', day::timestamp)::date AS period,
            usage_type,
            sum(price) AS price,
            sum(quantity) AS quantity,
            sum(records) AS records
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
            sum(quantity) AS quantity,
            sum(records) AS records
        FROM monthly
        GROUP BY subscription_id, usage_type
    ),

    -- In the order of the primary key: each of its pages is visited once.
    touched AS MATERIALIZED (
        SELECT DISTINCT subscription_id, period FROM change ORDER BY subscription_id, period
    ),

    -- Both types of each: when one changes, the other may become the largest.
    parts AS (
        SELECT
            subscription_id,
            period,
            usage_type,
            price,
            quantity,
            records,
            TRUE AS is_change,
            FALSE AS is_largest
        FROM change
        UNION ALL
        SELECT
            known.subscription_id,
            known.period,
            known.usage_type,
            known.total_price,
            known.total_usage,
            known.record_count,
            FALSE AS is_change,
            known.is_largest
        FROM touched
        INNER JOIN usage_period_total AS known USING (subscription_id, period)
    ),

    summed AS (
        SELECT
            subscription_id,
            period,
            usage_type,
            sum(price) AS total_price,
            sum(quantity)::bigint AS total_usage,
            sum(records)::bigint AS record_count,
            bool_or(is_change) AS is_changed,
            bool_or(is_largest) AS was_largest
        FROM parts
        GROUP BY subscription_id, period, usage_type
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
            row_number() OVER (
                PARTITION BY subscription_id, period
                ORDER BY record_count <= 0, total_price DESC, usage_type
            ) = 1 AS is_largest
        FROM summed
    ),

    removed AS (
        DELETE FROM usage_period_total AS known
        USING ranked
        WHERE
            ranked.record_count <= 0
            AND known.subscription_id = ranked.subscription_id
            AND known.period = ranked.period
            AND known.usage_type = ranked.usage_type
    )

    INSERT INTO usage_period_total (
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    )
    SELECT
        subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
    FROM ranked
    WHERE record_count > 0 AND (is_changed OR is_largest <> was_largest)
    ON CONFLICT (subscription_id, period, usage_type) DO UPDATE SET
        total_price = excluded.total_price,
        total_usage = excluded.total_usage,
        record_count = excluded.record_count,
        is_largest = excluded.is_largest
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
                subscription_id,
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


def open_digest() -> Decimal | None:
    """A fingerprint of the open view, or None when it was never filled."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relispopulated FROM pg_class WHERE oid = 'usage_daily_open'::regclass"
        )
        if cursor.fetchone() == (False,):
            return None
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
    """Add what was noted to the period totals and begin to note anew."""
    with connection.cursor() as cursor:
        cursor.execute(APPLY, {"all_days": ALL_DAYS})
        cursor.execute("DELETE FROM usage_total_change")

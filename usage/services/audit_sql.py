"""The queries of an audit."""

# Keys of whole days whose total differs from the sum of their raw records, at one snapshot.
DIFFERING = """
    WITH kept AS (
        SELECT coalesce(raw_kept_from, '-infinity'::date) AS from_day FROM usage_state
    ),

    expected AS MATERIALIZED (
        SELECT
            subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
        FROM usage_totals_of_days(%(first_day)s, %(last_day)s)
        {sampled}
    ),

    -- A key that is in both halves of usage_daily must differ, since readers count it twice:
    -- hence the sums.
    found AS MATERIALIZED (
        SELECT
            subscription_id,
            day,
            usage_type,
            sum(total_price) AS total_price,
            sum(total_usage)::bigint AS total_usage,
            sum(record_count)::bigint AS record_count,
            max(last_usage_at) AS last_usage_at
        FROM {relation}
        WHERE day BETWEEN %(first_day)s AND %(last_day)s {and_sampled}
        GROUP BY subscription_id, day, usage_type
    ),

    unequal AS (
        SELECT
            subscription_id,
            day,
            usage_type,
            found.total_price,
            expected.total_price AS expected_price,
            found.total_usage,
            expected.total_usage AS expected_usage,
            found.record_count,
            expected.record_count AS expected_count
        FROM expected
        FULL JOIN found USING (subscription_id, day, usage_type)
        WHERE
            (found.total_price, found.total_usage, found.record_count, found.last_usage_at)
            IS DISTINCT FROM
            (
                expected.total_price,
                expected.total_usage,
                expected.record_count,
                expected.last_usage_at
            )
            -- A day may be closed after the audit has begun and before it compares the day.
            AND day >= (SELECT kept.from_day FROM kept)
    ),

    differing AS (
        SELECT
            subscription_id,
            day,
            usage_type,
            total_price,
            expected_price,
            total_usage,
            expected_usage,
            record_count,
            expected_count
        FROM unequal
        WHERE
            NOT EXISTS (
                SELECT FROM usage_late_key AS late
                WHERE
                    late.subscription_id = unequal.subscription_id
                    AND late.day = unequal.day
                    AND late.usage_type = unequal.usage_type
            )
    )
"""
LIST_DIFFERING = """
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        expected_price,
        total_usage,
        expected_usage,
        record_count,
        expected_count,
        count(*) OVER ()
    FROM differing
    ORDER BY subscription_id, day, usage_type
    LIMIT %(limit)s
"""
MARK_DIFFERING_LATE = """
    INSERT INTO usage_late_key (subscription_id, day, usage_type)
    SELECT subscription_id, day, usage_type FROM differing
"""
COUNT_REMOVALS = """
    SELECT
        (SELECT count(*) FROM found),
        (SELECT count(*) FROM differing WHERE expected_count IS NULL),
        EXISTS (SELECT FROM expected)
"""
SAMPLED = "subscription_id = ANY(%(sample)s)"

# Period totals that differ from the sum of their daily totals, at one snapshot.
DIFFERING_PERIODS = """
    WITH monthly AS MATERIALIZED (
        SELECT
            subscription_id,
            date_trunc('month', day::timestamp)::date AS period,
            usage_type,
            sum(total_price) AS total_price,
            sum(total_usage)::bigint AS total_usage,
            sum(record_count)::bigint AS record_count
        FROM usage_daily
        {sampled}
        GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
    ),

    added AS (
        SELECT subscription_id, period, usage_type, total_price, total_usage, record_count
        FROM monthly
        UNION ALL
        SELECT
            subscription_id,
            %(all_days)s::date AS period,
            usage_type,
            sum(total_price) AS total_price,
            sum(total_usage)::bigint AS total_usage,
            sum(record_count)::bigint AS record_count
        FROM monthly
        GROUP BY subscription_id, usage_type
    ),

    expected AS (
        SELECT
            subscription_id,
            period,
            usage_type,
            total_price,
            total_usage,
            record_count,
            row_number() OVER (
                PARTITION BY subscription_id, period ORDER BY total_price DESC, usage_type
            ) = 1 AS is_largest
        FROM added
    ),

    found AS (
        SELECT
            subscription_id, period, usage_type, total_price, total_usage, record_count, is_largest
        FROM usage_period_total
        {sampled}
    )

    SELECT
        subscription_id,
        period,
        usage_type,
        found.total_price,
        expected.total_price,
        found.total_usage,
        expected.total_usage,
        found.record_count,
        expected.record_count,
        count(*) OVER ()
    FROM expected
    FULL JOIN found USING (subscription_id, period, usage_type)
    WHERE
        (found.total_price, found.total_usage, found.record_count, found.is_largest)
        IS DISTINCT FROM
        (
            expected.total_price,
            expected.total_usage,
            expected.record_count,
            expected.is_largest
        )
    ORDER BY subscription_id, period, usage_type
    LIMIT %(limit)s
"""


RANDOM_SUBSCRIPTIONS = """
WITH bounds AS (
    SELECT min(id) AS lowest, max(id) AS highest FROM usage_subscription
)

SELECT DISTINCT picked.id
FROM bounds
CROSS JOIN generate_series(1, %s) AS draws (draw)
CROSS JOIN LATERAL (
    SELECT id
    FROM usage_subscription
    WHERE
        id >= bounds.lowest
        + floor(random() * (bounds.highest - bounds.lowest + 1))::bigint
        + 0 * draws.draw
    ORDER BY id
    LIMIT 1
) AS picked
"""

-- The CTEs up to `differing`: keys of whole days whose total in a relation differs from the sum of
-- their raw records, at one snapshot. Late keys are left out, because the next refresh repairs them.
kept AS (
    SELECT coalesce(raw_kept_from, '-infinity'::date) AS from_day FROM usage_state
),

expected AS MATERIALIZED (
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count,
        last_usage_at
    FROM usage_totals_of_days(%(first_day)s, %(last_day)s)
    WHERE %(_of_subscriptions)s
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
    FROM %(_relation)s
    WHERE day BETWEEN %(first_day)s AND %(last_day)s AND %(_of_subscriptions)s
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

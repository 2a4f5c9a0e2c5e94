-- Period totals that differ from the sum of their daily totals, at one snapshot, and the number of
-- all of them.
WITH monthly AS MATERIALIZED (
    SELECT
        subscription_id,
        date_trunc('month', day::timestamp)::date AS period,
        usage_type,
        sum(total_price) AS total_price,
        sum(total_usage)::bigint AS total_usage,
        sum(record_count)::bigint AS record_count
    FROM usage_daily
    WHERE %(_of_subscriptions)s
    GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
),

added AS (
    SELECT
        subscription_id,
        period,
        usage_type,
        total_price,
        total_usage,
        record_count
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
            PARTITION BY subscription_id, period ORDER BY total_price DESC, usage_type ASC
        ) = 1 AS is_largest
    FROM added
),

found AS (
    SELECT
        subscription_id,
        period,
        usage_type,
        total_price,
        total_usage,
        record_count,
        is_largest
    FROM usage_period_total
    WHERE %(_of_subscriptions)s
)

SELECT
    subscription_id,
    period,
    usage_type,
    found.total_price,
    expected.total_price AS expected_price,
    found.total_usage,
    expected.total_usage AS expected_usage,
    found.record_count,
    expected.record_count AS expected_count,
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
LIMIT %(most)s

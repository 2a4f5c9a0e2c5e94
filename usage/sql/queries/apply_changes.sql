-- Add the noted changes to the period totals. Additions and removals cancel out in the sums: a day
-- that is sealed leaves the open view with the same totals, so it changes no period.
WITH monthly AS MATERIALIZED (
    SELECT
        subscription_id,
        date_trunc('month', day::timestamp)::date AS period,
        usage_type,
        sum(total_price) AS total_price,
        sum(total_usage)::bigint AS total_usage,
        sum(record_count)::bigint AS record_count
    FROM usage_total_change
    GROUP BY subscription_id, date_trunc('month', day::timestamp)::date, usage_type
    HAVING sum(total_price) <> 0 OR sum(total_usage) <> 0 OR sum(record_count) <> 0
),

change AS MATERIALIZED (
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

-- The order is that of the primary key, so that each of its pages is read once.
touched AS MATERIALIZED (
    SELECT
        subscription_id,
        array_agg(DISTINCT period) AS periods
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
            AND total.period = any(touched.periods)
),

summed AS (
    SELECT
        subscription_id,
        period,
        usage_type,
        coalesce(known.total_price, 0) + coalesce(change.total_price, 0) AS total_price,
        coalesce(known.total_usage, 0) + coalesce(change.total_usage, 0) AS total_usage,
        coalesce(known.record_count, 0) + coalesce(change.record_count, 0) AS record_count,
        change.record_count IS NOT NULL AS is_changed,
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
            ORDER BY record_count <= 0 ASC, total_price DESC, usage_type ASC
        ) = 1 AS is_largest
    FROM summed
),

-- Rows are found by ctid, which only this transaction can change. A second search by key would
-- take as long as all steps before.
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
    subscription_id,
    period,
    usage_type,
    total_price,
    total_usage,
    record_count,
    is_largest
FROM ranked
WHERE place IS NULL AND record_count > 0

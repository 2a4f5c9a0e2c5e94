-- Write the totals of days once, from their raw records. Yields the fingerprint of the rows.
WITH sealed AS (
    INSERT INTO usage_daily_sealed (
        subscription_id, day, usage_type, total_price, total_usage, record_count, last_usage_at
    )
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count,
        last_usage_at
    FROM usage_totals_of_days(%(first_day)s, %(last_day)s)
    -- The order is that of the primary key, so that each of its pages is written once.
    ORDER BY subscription_id, day, usage_type
    RETURNING subscription_id, day, usage_type, total_price, total_usage, record_count
),

noted AS (
    %(_note)s
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count
    FROM sealed
)

SELECT %(_fingerprint)s FROM sealed

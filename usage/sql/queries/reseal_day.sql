-- Compute the totals of a sealed day and usage type again. Yields the number of changed rows and
-- the fingerprint of the change.
WITH fresh AS MATERIALIZED (
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count,
        last_usage_at
    FROM usage_totals_of_days(%(day)s, %(day)s)
    WHERE usage_type = %(usage_type)s
),

known AS MATERIALIZED (
    SELECT
        subscription_id,
        day,
        usage_type,
        total_price,
        total_usage,
        record_count
    FROM usage_daily_sealed
    WHERE day = %(day)s AND usage_type = %(usage_type)s
),

%(_write_fresh)s

SELECT
    (SELECT count(*) FROM removed) + (SELECT count(*) FROM written),
    (SELECT %(_fingerprint)s FROM difference)

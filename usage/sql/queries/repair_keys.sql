-- Compute the late keys of kept sealed days again and empty the log. Yields the number of keys, the
-- fingerprint of the change and its first day.
WITH consumed AS (
    DELETE FROM usage_late_key RETURNING subscription_id, day, usage_type
),

wanted AS MATERIALIZED (
    SELECT DISTINCT
        subscription_id,
        day,
        usage_type
    FROM consumed
    WHERE
        day >= %(kept_from)s
        AND day < %(sealed_before)s
        AND (day, usage_type) NOT IN (
            SELECT
                whole.day,
                whole.usage_type
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

%(_write_fresh)s

SELECT
    (SELECT count(*) FROM wanted),
    (SELECT %(_fingerprint)s FROM difference),
    (SELECT min(day) FROM difference)

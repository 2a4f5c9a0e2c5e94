-- One row per subscription, day and usage type, exact at the reader's own snapshot.
-- Sources: usage_daily_sealed, but for the keys in usage_late_key; those and the open days from the
-- raw records. Why: who asks for one subscription need not wait for the next refresh.
-- It reads raw tables itself and calls no function that does: a function would ask for the
-- reader's own rights on them, and an analyst has none.

CREATE OR REPLACE VIEW usage_daily_live AS
WITH bounds AS (
    SELECT
        coalesce(sealed_before, '-infinity'::date) AS open_from,
        coalesce(usage_day_start(sealed_before), '-infinity'::timestamptz) AS usage_from,
        coalesce(raw_kept_from, '-infinity'::date) AS kept_from
    FROM usage_state
),

-- Keys of days not sealed yet are open, keys of closed days are final.
late_keys AS NOT MATERIALIZED (
    SELECT DISTINCT
        subscription_id,
        day,
        usage_type
    FROM usage_late_key
    WHERE
        day >= (SELECT bounds.kept_from FROM bounds)
        AND day < (SELECT bounds.open_from FROM bounds)
)

SELECT
    sealed.subscription_id,
    sealed.day,
    sealed.usage_type,
    sealed.total_price,
    sealed.total_usage,
    sealed.record_count,
    sealed.last_usage_at
FROM usage_daily_sealed AS sealed
WHERE
    NOT EXISTS (
        SELECT
        FROM late_keys
        WHERE
            late_keys.subscription_id = sealed.subscription_id
            AND late_keys.day = sealed.day
            AND late_keys.usage_type = sealed.usage_type
    )
UNION ALL
SELECT
    late_keys.subscription_id,
    late_keys.day,
    late_keys.usage_type,
    repaired.total_price,
    repaired.total_usage,
    repaired.record_count,
    repaired.last_usage_at
FROM late_keys
CROSS JOIN
    LATERAL (
        SELECT
            sum(record.price) AS total_price,
            sum(record.quantity)::bigint AS total_usage,
            count(*) AS record_count,
            max(record.usage_date) AS last_usage_at
        FROM usage_record AS record
        WHERE
            record.usage_type = late_keys.usage_type
            AND record.subscription_id = late_keys.subscription_id
            AND record.usage_date >= usage_day_start(late_keys.day)
            AND record.usage_date < usage_day_end(late_keys.day)
            AND usage_day(record.usage_date) = late_keys.day
        HAVING count(*) > 0
    ) AS repaired
UNION ALL
-- Each usage type has a branch of its own. A join with usage_type would estimate hundreds of types,
-- since nothing analyzes so small a table, and PostgreSQL would compile the plan for many seconds.
-- For each usage type, with UNION ALL between:
SELECT
    record.subscription_id,
    usage_day(record.usage_date) AS day,
    'data'::text AS usage_type,
    sum(record.price) AS total_price,
    sum(record.kilobytes_used)::bigint AS total_usage,
    count(*) AS record_count,
    max(record.usage_date) AS last_usage_at
FROM usage_datausagerecord AS record
WHERE
    record.usage_date >= (SELECT bounds.usage_from FROM bounds)
    AND usage_day(record.usage_date) >= (SELECT bounds.open_from FROM bounds)
GROUP BY record.subscription_id, usage_day(record.usage_date);

COMMENT ON VIEW usage_daily_live IS
'Totals by subscription, day and usage type, now. Name subscriptions: it reads raw records.';
COMMENT ON COLUMN usage_daily_live.subscription_id IS
'The subscription (usage_subscription.id).';
COMMENT ON COLUMN usage_daily_live.day IS
'The day of usage in the time zone of the deployment.';
COMMENT ON COLUMN usage_daily_live.usage_type IS
'data or voice.';
COMMENT ON COLUMN usage_daily_live.total_price IS
'Sum of prices, exact, in the currency of the deployment.';
COMMENT ON COLUMN usage_daily_live.total_usage IS
'Sum of quantities: kilobytes for data, seconds for voice.';
COMMENT ON COLUMN usage_daily_live.record_count IS
'How many raw records the totals are made of.';
COMMENT ON COLUMN usage_daily_live.last_usage_at IS
'When the last of these records took place.';

DO $do$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'usage_analyst') THEN
        GRANT SELECT ON usage_daily_live TO usage_analyst;
    END IF;
END
$do$;
